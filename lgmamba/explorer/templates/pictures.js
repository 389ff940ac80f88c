// Pictures: decoding, what was read, errors and ages, and the cards that show them.

const P = DATA.pictures;
const PIXELS = P ? P.shape[1] * P.shape[2] : 0;
const TRAIL = 5;

const bytesOf = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
// Colours as the four bytes of a pixel in memory: red, green, blue, opaque.
const colourOf = (hex) => new Uint32Array(Uint8Array.of(...[1, 3, 5].map((k) => parseInt(hex.slice(k, k + 2), 16)), 255).buffer)[0];
const coloursOf = (shades) => Uint32Array.from(shades, colourOf);
const BLANK = ["#ededfc", "#dedeed"].map(colourOf);
const SHADES = { error: coloursOf(DATA.ramps.error), age: coloursOf(DATA.ramps.age) };

async function pixelsOf(webp) {
  const image = new Image();
  image.src = `data:image/webp;base64,${webp}`;
  await image.decode();
  const canvas = element("canvas", { width: image.naturalWidth, height: image.naturalHeight });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  return context.getImageData(0, 0, canvas.width, canvas.height);
}

// Decoded once, when first asked for: targets, orders, and the sheet of each run and image.
const once = new Map();
function remembered(key, make) {
  if (!once.has(key)) once.set(key, make());
  return once.get(key);
}

const targetOf = (image) => remembered(`target ${image}`, () => pixelsOf(P.images[image].webp));

const sheetOf = (run, image) => remembered(`sheet ${run.name} ${image}`, () => pixelsOf(run.strips[image].webp));

function orderOf(image) {
  return remembered(`order ${image}`, () => {
    const bytes = bytesOf(P.images[image].cells);
    const view = new DataView(bytes.buffer);
    const read = { 1: "getUint8", 2: "getUint16", 4: "getUint32" }[P.bytes];
    return Uint32Array.from({ length: bytes.length / P.bytes }, (_, k) => view[read](k * P.bytes, true));
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

// Paints a picture pixel by pixel: colour(k) gives a colour, or nothing for the pattern of "not read".
function paint(canvas, colour) {
  const [, H, W] = P.shape;
  const image = new ImageData(W, H);
  const pixels = new Uint32Array(image.data.buffer);
  for (let y = 0, k = 0; y < H; y++) for (let x = 0; x < W; x++, k++) pixels[k] = colour(k) || BLANK[(x + y) % 2];
  canvas.getContext("2d").putImageData(image, 0, 0);
}

function drawTarget(canvas, target) {
  canvas.getContext("2d").putImageData(target, 0, 0);
}

function drawPatch(canvas, target, corner) {
  canvas.getContext("2d").putImageData(target, -corner[1], -corner[0], corner[1], corner[0], P.patch, P.patch);
}

function drawRead(canvas, target, ages) {
  const pixels = new Uint32Array(target.data.buffer);
  paint(canvas, (k) => (ages[k] < 0 ? 0 : pixels[k]));
  return ages.reduce((count, age) => count + (age >= 0), 0) / PIXELS;
}

function drawAges(canvas, ages, last) {
  paint(canvas, (k) => (ages[k] < 0 ? 0 : shade(SHADES.age, Math.log1p(ages[k]) / Math.log1p(last))));
}

function drawReconstruction(canvas, sheet, at) {
  const [, H, W] = P.shape;
  const [y, x] = tileCorner(at);
  canvas.getContext("2d").putImageData(sheet, -x, -y, x, y, W, H);
}

function drawErrors(canvas, sheet, at, target) {
  const W = P.shape[2];
  const [y, x] = tileCorner(at);
  const [drawn, wanted] = [sheet.data, target.data];
  const scale = 1 / (3 * (255 * DATA.ramps.largest) ** 2);
  paint(canvas, (k) => {
    const row = (k / W) | 0;
    const here = 4 * ((y + row) * sheet.width + x + k - row * W);
    const r = drawn[here] - wanted[4 * k];
    const g = drawn[here + 1] - wanted[4 * k + 1];
    const b = drawn[here + 2] - wanted[4 * k + 2];
    return shade(SHADES.error, Math.sqrt((r * r + g * g + b * b) * scale));
  });
}

function svgOf(tag, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  Object.entries(attributes).forEach(([name, value]) => made.setAttribute(name, value));
  return made;
}

// Cards: what was read, then one for each run; each has two pictures above each other.
function pictureOf(label, width = P.shape[2], height = P.shape[1]) {
  const canvas = element("canvas", { width, height, className: width < 100 ? "coarse" : "" });
  canvas.getContext("2d", { willReadFrequently: true }); // small, and painted pixel by pixel: kept out of the GPU
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
  const read = card("Read so far", pictureOf("What was read of the image so far"), pictureOf("Steps since each pixel was last read"));
  return { image, read };
}

function runCard(run) {
  const both = card(run.name, pictureOf(`The image as ${run.name} draws it`), pictureOf(`Errors of ${run.name}`), swatchOf(run));
  if (P.asked) both.frame.append(queriesOutlined());
  return { ...both, run };
}

// Outlines of what each query asks for, on top of what a run draws; one drawing for all runs.
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
  cards.image.below.textContent = `patch ${plain(t)}`;
  const share = drawRead(cards.read.upper, target, ages);
  drawAges(cards.read.lower, ages, t);
  cards.read.above.textContent = `${Math.floor(100 * share)} % of the pixels`;
  cards.read.below.textContent = "steps since read";
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
  drawErrors(shown.lower, sheet, at, target);
  const level = `${strip.psnr[at].toFixed(1)} dB`;
  shown.above.textContent = strip.steps[at] === t ? level : `${level} at t = ${plain(strip.steps[at])}`;
}
