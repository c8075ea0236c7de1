// Where things are in the piano roll: seconds and rows to pixels of the visible part, and back.
"use strict";

const rollView = (() => {
  const GUTTER = 62; // names of pitches
  const RULER = 22; // seconds
  const HEAD = 20; // title of a panel
  const MAX_PIXELS_PER_SECOND = 1200;
  const ROW_HEIGHTS = [3, 24];

  function make(scroll, size) {
    const view = { seconds: 1, rows: [], rowOf: new Int16Array(256).fill(-1), panels: 1, pixelsPerSecond: 60, rowHeight: 6 };

    view.width = () => scroll.clientWidth;
    view.height = () => scroll.clientHeight;
    view.panelHeight = () => HEAD + view.rows.length * view.rowHeight;
    view.x = (seconds) => GUTTER + seconds * view.pixelsPerSecond - scroll.scrollLeft;
    view.secondsAt = (x) => (x - GUTTER + scroll.scrollLeft) / view.pixelsPerSecond;
    view.panelTop = (panel) => RULER + panel * view.panelHeight() - scroll.scrollTop;
    view.rowTop = (panel, row) => view.panelTop(panel) + HEAD + row * view.rowHeight;
    view.from = () => view.secondsAt(GUTTER);
    view.to = () => view.secondsAt(view.width());

    view.hit = (x, y) => {
      const panel = Math.floor((y - RULER + scroll.scrollTop) / view.panelHeight());
      return { seconds: view.secondsAt(x), panel, row: Math.floor((y - view.rowTop(panel, 0)) / view.rowHeight) };
    };

    const slowest = () => (view.width() - GUTTER) / view.seconds;

    view.setContent = (seconds, rows, panels) => {
      Object.assign(view, { seconds: Math.max(seconds, 0.1), rows, panels });
      view.rowOf.fill(-1);
      rows.forEach(({ key }, row) => key >= 0 && (view.rowOf[key] = row));
      const room = (view.height() - RULER - panels * HEAD) / Math.max(1, panels * rows.length);
      view.rowHeight = clamp(room, ...ROW_HEIGHTS);
      resize();
    };

    view.zoom = (factor, around = (view.from() + view.to()) / 2) => {
      const x = view.x(around);
      view.pixelsPerSecond = clamp(view.pixelsPerSecond * factor, slowest(), MAX_PIXELS_PER_SECOND);
      resize();
      scroll.scrollLeft = GUTTER + around * view.pixelsPerSecond - x;
    };

    view.showSeconds = (seconds) => {
      view.pixelsPerSecond = clamp((view.width() - GUTTER) / seconds, slowest(), MAX_PIXELS_PER_SECOND);
      resize();
    };

    view.fit = () => view.showSeconds(view.seconds);

    view.stretch = (factor) => {
      view.rowHeight = clamp(view.rowHeight * factor, ...ROW_HEIGHTS);
      resize();
    };

    // Moves so that a time is in sight, a quarter from the left.
    view.reveal = (seconds) => {
      if (seconds < view.from() || seconds > view.to() - 0.05 * (view.to() - view.from())) {
        scroll.scrollLeft = seconds * view.pixelsPerSecond - (view.width() - GUTTER) / 4;
      }
    };

    view.revealRow = (panel, row) => {
      const top = view.rowTop(panel, row);
      if (top < RULER + HEAD || top + view.rowHeight > view.height()) scroll.scrollTop += top - view.height() / 2;
    };

    function resize() {
      view.pixelsPerSecond = Math.max(view.pixelsPerSecond, slowest());
      size.style.width = `${Math.floor(GUTTER + view.seconds * view.pixelsPerSecond)}px`;
      size.style.height = `${Math.max(view.height(), Math.ceil(RULER + view.panels * view.panelHeight()))}px`;
    }
    view.resize = resize;
    return view;
  }

  // Pitches from the highest to the lowest that occur, then the drums that do; keys of drums are 128 more.
  function rowsOf(sides) {
    const pitches = new Set();
    const drums = new Set();
    for (const side of sides) {
      for (let index = 0; index < side.count; index++) {
        (notes.isDrum(side, index) ? drums : pitches).add(side.pitch[index]);
      }
    }
    const rows = [];
    if (pitches.size) {
      const lowest = Math.max(0, Math.min(...pitches) - 1);
      for (let pitch = Math.min(127, Math.max(...pitches) + 1); pitch >= lowest; pitch--) {
        rows.push({ key: pitch, label: notes.pitchName(pitch), pitch });
      }
    }
    if (pitches.size && drums.size) rows.push({ key: -1, label: "" });
    for (const key of [...drums].sort((a, b) => b - a)) rows.push({ key: 128 + key, label: `drum ${key}`, drum: true });
    return rows;
  }

  const clamp = (value, low, high) => Math.max(Math.min(value, Math.max(low, high)), low);

  return { make, rowsOf, GUTTER, RULER, HEAD };
})();
