// How notes of each kind and instrument look: a colour and a shape, so that neither is needed alone.
"use strict";

const patterns = (() => {
  // [light, dark], in the order of note_errors.KINDS; hues after Okabe and Ito's palette for all colour visions.
  const KINDS = [
    { colours: ["#0072b2", "#4fa9e6"], shape: solid },
    { colours: ["#3f9bd1", "#9ad4f7"], shape: hollowEnd },
    { colours: ["#c47f00", "#f2b63c"], shape: stripes },
    { colours: ["#00875f", "#35cf9f"], shape: hollowStart },
    { colours: ["#b0508a", "#eaa2cd"], shape: bars },
    { colours: ["#cf4a00", "#ff8a47"], shape: outline },
    { colours: ["#4d4d4d", "#c8c8c8"], shape: crosses },
  ];
  const TILE = 6;
  const SMALL = 4; // narrower or lower notes are filled
  const tiles = new Map();

  const kindColour = (kind) => KINDS[kind].colours[theme.isDark() ? 1 : 0];

  function familyColour(family) {
    if (family === 16) return theme.isDark() ? "#b9bec6" : "#555b64";
    return `hsl(${(family * 137.5 + 215) % 360} ${theme.isDark() ? "60% 66%" : "60% 42%"})`;
  }

  // boxes: x, y, width, height of one note after another.
  function drawKind(context, kind, boxes) {
    const colour = kindColour(kind);
    context.fillStyle = colour;
    KINDS[kind].shape(context, boxes, colour);
  }

  function drawFamily(context, family, boxes) {
    context.fillStyle = familyColour(family);
    solid(context, boxes);
  }

  function each(boxes, draw) {
    for (let at = 0; at < boxes.length; at += 4) draw(boxes[at], boxes[at + 1], boxes[at + 2], boxes[at + 3]);
  }

  function solid(context, boxes) {
    each(boxes, (x, y, width, height) => context.fillRect(x, y, width, height));
  }

  function outline(context, boxes) {
    each(boxes, (x, y, width, height) => frame(context, x, y, width, height));
  }

  // Four thin boxes: much faster than a stroke.
  function frame(context, x, y, width, height) {
    if (width < SMALL || height < SMALL) {
      context.fillRect(x, y, width, height);
      return;
    }
    context.fillRect(x, y, width, 1);
    context.fillRect(x, y + height - 1, width, 1);
    context.fillRect(x, y, 1, height);
    context.fillRect(x + width - 1, y, 1, height);
  }

  function hollowEnd(context, boxes) {
    each(boxes, (x, y, width, height) => {
      frame(context, x, y, width, height);
      context.fillRect(x, y, width * 0.6, height);
    });
  }

  function hollowStart(context, boxes) {
    each(boxes, (x, y, width, height) => {
      frame(context, x, y, width, height);
      context.fillRect(x + width * 0.4, y, width * 0.6, height);
    });
  }

  function tiled(context, boxes, colour, name, draw) {
    outline(context, boxes);
    context.fillStyle = tile(context, name, colour, draw);
    each(boxes, (x, y, width, height) => {
      if (width >= SMALL && height >= SMALL) context.fillRect(x, y, width, height);
    });
  }

  function stripes(context, boxes, colour) {
    tiled(context, boxes, colour, "stripes", (inside) => {
      for (const shift of [-TILE, 0, TILE]) {
        inside.moveTo(shift - 1, TILE + 1);
        inside.lineTo(shift + TILE + 1, -1);
      }
    });
  }

  function bars(context, boxes, colour) {
    tiled(context, boxes, colour, "bars", (inside) => {
      for (const x of [1.5, 4.5]) {
        inside.moveTo(x, 0);
        inside.lineTo(x, TILE);
      }
    });
  }

  function crosses(context, boxes, colour) {
    tiled(context, boxes, colour, "crosses", (inside) => {
      inside.moveTo(0, 0);
      inside.lineTo(TILE, TILE);
      inside.moveTo(TILE, 0);
      inside.lineTo(0, TILE);
    });
  }

  // Patterns stay with the notes when these scroll: see `anchor`.
  let origin = new DOMMatrix();

  function anchor(x, y) {
    const scale = 1 / devicePixelRatio;
    origin = new DOMMatrix().translateSelf(x, y).scaleSelf(scale, scale);
    for (const made of tiles.values()) made.setTransform(origin);
  }

  function tile(context, name, colour, draw) {
    const key = `${name} ${colour} ${devicePixelRatio}`;
    if (!tiles.has(key)) {
      const canvas = document.createElement("canvas");
      canvas.width = canvas.height = Math.round(TILE * devicePixelRatio);
      const inside = canvas.getContext("2d");
      inside.scale(canvas.width / TILE, canvas.height / TILE);
      inside.strokeStyle = colour;
      inside.lineWidth = 1.5;
      inside.beginPath();
      draw(inside);
      inside.stroke();
      const made = context.createPattern(canvas, "repeat");
      made.setTransform(origin);
      tiles.set(key, made);
    }
    return tiles.get(key);
  }

  // A small picture of how notes look, for the filters.
  function swatch(draw) {
    const canvas = document.createElement("canvas");
    canvas.width = 22 * devicePixelRatio;
    canvas.height = 11 * devicePixelRatio;
    const context = canvas.getContext("2d");
    context.scale(devicePixelRatio, devicePixelRatio);
    draw(context, [0, 0, 22, 11]);
    canvas.setAttribute("aria-hidden", "true");
    return canvas;
  }

  return { kindColour, drawKind, drawFamily, swatch, anchor };
})();
