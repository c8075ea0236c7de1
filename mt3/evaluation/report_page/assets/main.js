// Starts the parts of the page in the order in which a reader meets them.
"use strict";

(async () => {
  theme.start();
  summary.start();
  breakdowns.start();
  confusion.start();
  recordings.start(async (index) => {
    await roll.open(index);
    dom.byId("roll").scrollIntoView();
    dom.byId("roll-scroll").focus({ preventScroll: true });
  });
  await roll.start();
  document.documentElement.dataset.ready = "true";
})();
