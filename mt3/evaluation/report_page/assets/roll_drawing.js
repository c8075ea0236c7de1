// Draws the visible part of the piano roll, and nothing else.
"use strict";

const rollDrawing = (() => {
  const { GUTTER, RULER, HEAD } = rollView;
  const BLACK_KEYS = [1, 3, 6, 8, 10];
  const STEPS_SECONDS = [0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600];
  const MIN_STEP_PIXELS = 70;
  const MIN_NOTE_PIXELS = 2;
  const FONT = "11px system-ui, sans-serif";

  // Rows, seconds and notes as they were drawn last: when the view moves sideways, only what comes into sight is new.
  const layer = document.createElement("canvas");
  let layerKey = "";
  let layerX = 0; // where second 0 is in it
  let drawn = 0;

  // scene: {panels: [{title, side}], shows(side, index), colour: "kind" or "instrument", cursor (seconds), marked, version}
  // -> how many notes were drawn when there was last something new to draw
  function draw(canvas, view, scene, scrollTop) {
    const [width, height, ratio] = [view.width(), view.height(), devicePixelRatio];
    const isNew = [canvas, layer].map((one) => fitTo(one, width, height, ratio)).includes(true);
    const colours = readColours();
    updateLayer(view, scene, scrollTop, colours, isNew);
    const context = canvas.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.drawImage(layer, 0, 0);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    drawGutter(context, view, scene, colours);
    drawRuler(context, view, colours);
    drawCursor(context, view, scene, colours);
    return drawn;
  }

  function fitTo(canvas, width, height, ratio) {
    const [wide, high] = [Math.round(width * ratio), Math.round(height * ratio)];
    if (canvas.width === wide && canvas.height === high) return false;
    canvas.width = wide;
    canvas.height = high;
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
    return true;
  }

  function updateLayer(view, scene, scrollTop, colours, isNew) {
    const ratio = devicePixelRatio;
    const key = [scene.version, scrollTop, view.pixelsPerSecond, view.rowHeight, ratio].join();
    const shift = (view.x(0) - layerX) * ratio;
    const isSame = key === layerKey && !isNew;
    if (isSame && shift === 0) return;
    layerKey = key;
    layerX = view.x(0);
    patterns.anchor(layerX, -scrollTop);
    const context = layer.getContext("2d");
    if (!isSame || !Number.isInteger(shift) || Math.abs(shift) >= layer.width) {
      drawn = drawStrip(context, view, scene, colours, 0, view.width());
      return;
    }
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.globalCompositeOperation = "copy";
    context.drawImage(layer, shift, 0);
    context.globalCompositeOperation = "source-over";
    // Below the gutter there is nothing that can be used.
    const strip = shift < 0 ? [view.width() + shift / ratio, view.width()] : [0, GUTTER + shift / ratio];
    drawn = drawStrip(context, view, scene, colours, ...strip);
  }

  // What lies between two places, in pixels from the left.
  function drawStrip(context, view, scene, colours, left, right) {
    const ratio = devicePixelRatio;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.save();
    context.beginPath();
    context.rect(left, 0, right - left, view.height());
    context.clip();
    context.fillStyle = colours.card;
    context.fillRect(left, 0, right - left, view.height());
    scene.panels.forEach((panel, index) => drawRows(context, view, index, colours));
    drawSeconds(context, view, colours);
    const boxes = new Map(); // kind or family -> x, y, width, height of one note after another
    const seconds = [view.secondsAt(left - MIN_NOTE_PIXELS), view.secondsAt(right + 1)];
    scene.panels.forEach((panel, index) => addBoxes(boxes, view, panel.side, index, scene, ...seconds));
    const drawBoxes = scene.colour === "kind" ? patterns.drawKind : patterns.drawFamily;
    let count = 0;
    for (const [style, own] of boxes) {
      drawBoxes(context, style, own);
      count += own.length / 4;
    }
    drawMark(context, view, scene, colours);
    context.restore();
    return count;
  }

  function readColours() {
    const style = getComputedStyle(document.documentElement);
    const names = ["card", "faint", "line", "ink", "soft", "accent", "focus"];
    return Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
  }

  function drawRows(context, view, panel, colours) {
    view.rows.forEach((row, index) => {
      const top = view.rowTop(panel, index);
      if (top > view.height() || top + view.rowHeight < RULER) return;
      const shaded = row.drum ? index % 2 === 0 : BLACK_KEYS.includes(row.pitch % 12);
      if (shaded) {
        context.fillStyle = colours.faint;
        context.fillRect(GUTTER, top, view.width(), view.rowHeight);
      }
      if (row.pitch % 12 === 0 || row.key < 0) {
        context.fillStyle = colours.line;
        context.fillRect(GUTTER, Math.round(top + view.rowHeight), view.width(), 1);
      }
    });
  }

  const stepOf = (view) =>
    STEPS_SECONDS.find((step) => step * view.pixelsPerSecond >= MIN_STEP_PIXELS) ?? STEPS_SECONDS.at(-1);

  function drawSeconds(context, view, colours) {
    const step = stepOf(view);
    context.fillStyle = colours.line;
    for (let mark = Math.ceil(view.from() / step); mark * step <= view.to(); mark++) {
      context.fillRect(Math.round(view.x(mark * step)), RULER, 1, view.height());
    }
  }

  function addBoxes(boxes, view, side, panel, scene, from, to) {
    const [first, last] = notes.range(side, from, to);
    const ratio = devicePixelRatio;
    const snapped = (value) => Math.round(value * ratio) / ratio; // whole pixels are filled faster
    const height = snapped(Math.max(MIN_NOTE_PIXELS, view.rowHeight - (view.rowHeight > 5 ? 1 : 0)));
    for (let index = first; index < last; index++) {
      if (side.end[index] < from || !scene.shows(side, index)) continue;
      const row = view.rowOf[side.pitch[index] + (notes.isDrum(side, index) ? 128 : 0)];
      const top = snapped(view.rowTop(panel, row));
      if (top + height < RULER || top > view.height()) continue;
      const left = snapped(view.x(side.onset[index]));
      const width = Math.max(MIN_NOTE_PIXELS, snapped(view.x(side.end[index]) - 0.5) - left);
      const style = scene.colour === "kind" ? side.kind[index] : notes.family(side, index);
      if (!boxes.has(style)) boxes.set(style, []);
      boxes.get(style).push(left, top, width, height);
    }
  }

  function drawMark(context, view, scene, colours) {
    if (!scene.marked) return;
    const { side, index, panel } = scene.marked;
    const row = view.rowOf[side.pitch[index] + (notes.isDrum(side, index) ? 128 : 0)];
    const [left, right] = [view.x(side.onset[index]), view.x(side.end[index])];
    context.strokeStyle = colours.focus;
    context.lineWidth = 2;
    context.strokeRect(left - 4, view.rowTop(panel, row) - 4, right - left + 8, view.rowHeight + 8);
  }

  function drawGutter(context, view, scene, colours) {
    context.font = FONT;
    context.textBaseline = "middle";
    context.fillStyle = colours.card;
    context.fillRect(0, 0, GUTTER, view.height());
    context.fillStyle = colours.line;
    context.fillRect(GUTTER - 1, 0, 1, view.height());
    scene.panels.forEach((panel, number) => {
      context.textAlign = "right";
      context.fillStyle = colours.soft;
      let free = -Infinity; // labels do not overlap
      view.rows.forEach((row, index) => {
        const middle = view.rowTop(number, index) + view.rowHeight / 2;
        const wanted = row.drum || row.pitch % 12 === 0 || view.rowHeight >= 12;
        if (!wanted || middle < free || middle < 0 || middle > view.height()) return;
        context.fillText(row.label, GUTTER - 6, middle);
        free = middle + 11;
      });
      const top = view.panelTop(number);
      context.fillStyle = colours.card;
      context.fillRect(0, top, view.width(), HEAD);
      context.fillStyle = colours.line;
      context.fillRect(0, Math.round(top), view.width(), 1);
      context.textAlign = "left";
      context.fillStyle = colours.ink;
      context.font = `600 ${FONT}`;
      context.fillText(panel.title, GUTTER + 4, top + HEAD / 2 + 1);
      context.font = FONT;
    });
  }

  function drawRuler(context, view, colours) {
    const step = stepOf(view);
    context.fillStyle = colours.card;
    context.fillRect(0, 0, view.width(), RULER);
    context.fillStyle = colours.line;
    context.fillRect(0, RULER - 1, view.width(), 1);
    context.fillStyle = colours.soft;
    context.textAlign = "left";
    for (let mark = Math.ceil(view.from() / step); mark * step <= view.to(); mark++) {
      context.fillText(clock(mark * step, step), view.x(mark * step) + 3, RULER / 2);
    }
  }

  function drawCursor(context, view, scene, colours) {
    const x = Math.round(view.x(scene.cursor));
    if (x < GUTTER) return;
    context.fillStyle = colours.focus;
    context.fillRect(x - 3, RULER - 7, 6, 6);
    context.fillRect(x - 1, RULER, 2, view.height());
  }

  const clock = (seconds, step) =>
    dom.time(seconds + 1e-6) + (step < 1 ? (seconds % 1).toFixed(step < 0.1 ? 2 : step === 0.25 ? 2 : 1).slice(1) : "");

  return { draw };
})();
