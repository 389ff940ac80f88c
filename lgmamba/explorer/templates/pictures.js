// Pictures: decoding, what was read, errors and ages, and the cards that show them.

const P = DATA.pictures;
const PIXELS = P ? P.shape[1] * P.shape[2] : 0;
const TRAIL = 5;

function bytesOf(text) {
  const letters = atob(text);
  const bytes = new Uint8Array(letters.length);
  for (let k = 0; k < bytes.length; k++) bytes[k] = letters.charCodeAt(k);
  return bytes;
}

// Colours as the four bytes of a pixel in memory: red, green, blue, opaque.
const colourOf = (hex) => new Uint32Array(Uint8Array.of(...[1, 3, 5].map((k) => parseInt(hex.slice(k, k + 2), 16)), 255).buffer)[0];
const coloursOf = (shades) => Uint32Array.from(shades, colourOf);
const BLANK = ["#ededfc", "#dedeed"].map(colourOf);
const SHADES = { error: coloursOf(DATA.ramps.error), age: coloursOf(DATA.ramps.age) };

// Small, and painted and read pixel by pixel: kept out of the GPU.
function canvasOf(width, height) {
  const canvas = element("canvas", { width, height });
  canvas.getContext("2d", { willReadFrequently: true });
  return canvas;
}

// Decoded beside the page's main thread, and once: an <img> would be decoded again where it is drawn.
const bitmapOf = (webp) => createImageBitmap(new Blob([bytesOf(webp)], { type: "image/webp" }));

async function pixelsOf(webp) {
  const bitmap = await bitmapOf(webp);
  const context = canvasOf(bitmap.width, bitmap.height).getContext("2d");
  context.drawImage(bitmap, 0, 0);
  return context.getImageData(0, 0, bitmap.width, bitmap.height);
}

async function packed(name) {
  if (!byId(name)) await readToItsEnd;
  return byId(name).textContent;
}

// Decoded once, when first asked for: targets, orders, and the sheet of each run and image.
const once = new Map();
function remembered(key, make) {
  if (!once.has(key)) once.set(key, make());
  return once.get(key);
}

const targetOf = (image) => remembered(`target ${image}`, () => pixelsOf(P.images[image].webp));

const sheetOf = (run, image) => remembered(`sheet ${run.name} ${image}`, () => packed(run.strips[image].sheet).then(bitmapOf));

// What a view shows is decoded while the page does other things.
function beginDecoding(view) {
  targetOf(view.image);
  for (const name of view.runs) if (RUNS.get(name).strips[view.image]) sheetOf(RUNS.get(name), view.image);
}

function orderOf(image) {
  return remembered(`order ${image}`, () => {
    const bytes = bytesOf(P.images[image].cells);
    return new { 1: Uint8Array, 2: Uint16Array, 4: Uint32Array }[P.bytes](bytes.buffer);
  });
}

// Row and column of the upper left pixel of what step k (from 0) reads.
function cornerOf(image, k) {
  const W = P.shape[2];
  const cell = orderOf(image)[k];
  const across = P.reads === "places" ? W - P.patch + 1 : Math.floor(W / P.patch);
  const pace = P.reads === "places" ? 1 : P.patch;
  return [Math.floor(cell / across) * pace, (cell % across) * pace];
}

// Steps since each pixel was last read, -1 where it was not; kept for the view that was asked for last.
function agesAt(image, t) {
  const key = `${image} ${t}`;
  if (agesAt.key === key) return agesAt.ages;
  const W = P.shape[2];
  const ages = new Int32Array(PIXELS).fill(-1);
  let missing = PIXELS;
  for (let k = t - 1; k >= 0 && missing; k--) {
    const [y, x] = cornerOf(image, k);
    for (let dy = 0; dy < P.patch; dy++)
      for (let dx = 0, at = (y + dy) * W + x; dx < P.patch; dx++, at++)
        if (ages[at] < 0) {
          ages[at] = t - 1 - k;
          missing--;
        }
  }
  Object.assign(agesAt, { key, ages });
  return ages;
}

// The picture of a run at t, or the newest before it: position on the strip, or -1.
function pictureAt(run, image, t) {
  const strip = run.strips[image];
  return strip ? strip.steps.findLastIndex((step) => step <= t) : -1;
}

function tileCorner(at) {
  return [Math.floor(at / P.columns) * P.pitch[0], (at % P.columns) * P.pitch[1]];
}

function shade(scale, share) {
  return scale[Math.min(scale.length - 1, Math.max(0, Math.round(share * (scale.length - 1))))];
}

// Paints a picture pixel by pixel: fill(pixels) sets the colour of each; those that it leaves at 0 get the pattern of "not read".
function paint(canvas, fill) {
  const [, H, W] = P.shape;
  const image = new ImageData(W, H);
  const pixels = new Uint32Array(image.data.buffer);
  fill(pixels);
  for (let y = 0, k = 0; y < H; y++) for (let x = 0; x < W; x++, k++) if (!pixels[k]) pixels[k] = BLANK[(x + y) % 2];
  canvas.getContext("2d").putImageData(image, 0, 0);
}

function drawTarget(canvas, target) {
  canvas.getContext("2d").putImageData(target, 0, 0);
}

function drawPatch(canvas, target, corner) {
  canvas.getContext("2d").putImageData(target, -corner[1], -corner[0], corner[1], corner[0], P.patch, P.patch);
}

function oneColour(canvas) {
  const pixels = new Uint32Array(canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.buffer);
  return pixels.every((pixel) => pixel === pixels[0]);
}

function drawRead(canvas, target, ages) {
  const known = new Uint32Array(target.data.buffer);
  let read = 0;
  paint(canvas, (pixels) => {
    for (let k = 0; k < PIXELS; k++) {
      if (ages[k] < 0) continue;
      pixels[k] = known[k];
      read++;
    }
  });
  return read / PIXELS;
}

function drawAges(canvas, ages, last) {
  const colours = new Uint32Array(last + 1);
  const made = (age) => (colours[age] = shade(SHADES.age, Math.log1p(age) / Math.log1p(last)));
  paint(canvas, (pixels) => {
    for (let k = 0; k < PIXELS; k++) if (ages[k] >= 0) pixels[k] = colours[ages[k]] || made(ages[k]);
  });
}

function drawReconstruction(canvas, sheet, at) {
  const [, H, W] = P.shape;
  const [y, x] = tileCorner(at);
  canvas.getContext("2d").drawImage(sheet, x, y, W, H, 0, 0, W, H);
}

// Of what is drawn on a canvas.
function drawErrors(canvas, reconstruction, target) {
  const [, H, W] = P.shape;
  const [drawn, wanted] = [reconstruction.getContext("2d").getImageData(0, 0, W, H).data, target.data];
  const last = SHADES.error.length - 1;
  const scale = last / (Math.sqrt(3) * 255 * DATA.ramps.largest);
  paint(canvas, (pixels) => {
    for (let k = 0, at = 0; k < PIXELS; k++, at += 4) {
      const r = drawn[at] - wanted[at];
      const g = drawn[at + 1] - wanted[at + 1];
      const b = drawn[at + 2] - wanted[at + 2];
      pixels[k] = SHADES.error[Math.min(last, Math.round(scale * Math.sqrt(r * r + g * g + b * b)))];
    }
  });
}

function svgOf(tag, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  Object.entries(attributes).forEach(([name, value]) => made.setAttribute(name, value));
  return made;
}

// Cards: what was read, then one for each run; each has two pictures above each other.
function pictureOf(label, width = P.shape[2], height = P.shape[1]) {
  const canvas = canvasOf(width, height);
  canvas.className = width < 100 ? "coarse" : "";
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", label);
  return canvas;
}

function card(title, upper, lower, swatch) {
  const above = element("figcaption", { className: "value" });
  const below = element("p", { className: "value" });
  const frame = element("div", { className: "frame" }, upper);
  const heading = element("h3", {}, ...(swatch ? [swatch] : []), element("span", { textContent: title }));
  const node = element("figure", { className: "card" }, heading, frame, above, element("div", { className: "frame" }, lower), below);
  return { node, upper, lower, above, below, frame };
}

function readCards() {
  const image = card("The image", pictureOf("The image, the patches read last outlined"), pictureOf("The patch read at this step", P.patch, P.patch));
  image.outlines = Array.from({ length: TRAIL }, (_, k) => element("span", { className: "outline" }));
  image.outlines.forEach((outline, k) => (outline.style.opacity = 1 - k / TRAIL));
  image.frame.append(...image.outlines);
  image.lower.parentNode.classList.add("patch");
  const read = card("Read so far", pictureOf("What was read of the image so far"), pictureOf("Steps since each pixel was last read"));
  return { image, read };
}

function runCard(run) {
  const both = card(run.name, pictureOf(`The image as ${run.name} draws it`), pictureOf(`Errors of ${run.name}`), swatchOf(run));
  if (P.asked) outlineQueries(both);
  return { ...both, run };
}

// What each query asks for, on top of what a run draws; made where it is wished, since there may be a thousand of them.
function outlineQueries({ frame }) {
  if (byId("queries").checked) frame.append(queriesOutlined());
  else frame.querySelector(".queries")?.remove();
}

function queriesOutlined() {
  const [, H, W] = P.shape;
  const starts = (last) => [...new Set([...Array.from({ length: Math.floor(last / P.asked.stride) + 1 }, (_, k) => k * P.asked.stride), last])];
  const corners = starts(H - P.patch).flatMap((y) => starts(W - P.patch).map((x) => `M${x} ${y}h${P.patch}v${P.patch}h-${P.patch}z`));
  const svg = svgOf("svg", { viewBox: `0 0 ${W} ${H}`, class: "queries", "aria-hidden": "true" });
  svg.append(svgOf("path", { d: corners.join("") }));
  return svg;
}

async function showRead(cards, view) {
  const t = STEPS[view.at];
  cards.asked = view;
  const target = await targetOf(view.image);
  if (cards.asked !== view) return; // meanwhile another view was asked for
  const ages = agesAt(view.image, t);
  const [, H, W] = P.shape;
  drawTarget(cards.image.upper, target);
  drawPatch(cards.image.lower, target, cornerOf(view.image, t - 1));
  cards.image.outlines.forEach((outline, k) => {
    outline.hidden = t - 1 - k < 0;
    if (outline.hidden) return;
    const [y, x] = cornerOf(view.image, t - 1 - k);
    outline.style.inset = `${(100 * y) / H}% ${100 * (1 - (x + P.patch) / W)}% ${100 * (1 - (y + P.patch) / H)}% ${(100 * x) / W}%`;
  });
  cards.image.above.textContent = `${W} \u00d7 ${H} pixels`;
  cards.image.below.textContent = `patch read at t: ${P.patch} \u00d7 ${P.patch} pixels${oneColour(cards.image.lower) ? ", all alike" : ""}`;
  const share = drawRead(cards.read.upper, target, ages);
  drawAges(cards.read.lower, ages, t);
  cards.read.above.textContent = `${Math.floor(100 * share)} % of the pixels`;
  cards.read.below.textContent = `steps since read: 0 to ${plain(t - 1)}`;
}

async function showRun(shown, view) {
  const t = STEPS[view.at];
  shown.asked = view;
  const at = pictureAt(shown.run, view.image, t);
  const strip = shown.run.strips[view.image];
  shown.node.classList.toggle("none", at < 0);
  shown.node.classList.toggle("older", at >= 0 && strip.steps[at] !== t);
  shown.below.textContent = "error";
  if (at < 0) {
    shown.above.textContent = "no picture kept";
    return;
  }
  const [sheet, target] = await Promise.all([sheetOf(shown.run, view.image), targetOf(view.image)]);
  if (shown.asked !== view) return;
  drawReconstruction(shown.upper, sheet, at);
  drawErrors(shown.lower, shown.upper, target);
  const level = `${strip.psnr[at].toFixed(1)} dB`;
  shown.above.textContent = strip.steps[at] === t ? level : `${level} at t = ${plain(strip.steps[at])}`;
}
