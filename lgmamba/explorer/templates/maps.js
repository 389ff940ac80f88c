// Retention maps: one for each run, error by step and by the time since a part was last read.

const STRIP = 1.5; // octaves below age 0 that parts not read take, with a gap above them

function edgesOf(steps) {
  const x = steps.map(Math.log2);
  const between = x.slice(1).map((value, k) => (value + x[k]) / 2);
  return [x[0] - 0.5, ...between, x.at(-1) + 0.5];
}

// Of cells of which little is left.
function hatch(context) {
  const tile = element("canvas", { width: 6, height: 6 });
  const lines = tile.getContext("2d");
  lines.strokeStyle = styleOf("--muted");
  lines.lineWidth = 1.2;
  for (const x of [-6, 0, 6]) {
    lines.moveTo(x, 6);
    lines.lineTo(x + 6, 0);
  }
  lines.stroke();
  return context.createPattern(tile, "repeat");
}

function plotMap(box, run, jump) {
  const edges = edgesOf(run.map.steps);
  const [left, right] = [edges[0], edges.at(-1)];
  const top = DATA.maps.oldest + 1;
  const canvas = element("canvas", { width: 480, height: 340 });
  const context = canvas.getContext("2d");
  const toX = (x) => ((x - left) / (right - left)) * canvas.width;
  const toY = (y) => ((top - y) / (top + STRIP)) * canvas.height;
  const few = hatch(context);
  const { cells } = run.map;
  for (let k = 0; k < cells.length; k += 3) {
    const [at, octave, tone] = cells.slice(k, k + 3);
    const [x0, x1] = [toX(edges[at]), toX(edges[at + 1])];
    const [y0, y1] = octave < 0 ? [toY(-0.5), toY(-STRIP)] : [toY(octave + 1), toY(octave)];
    context.fillStyle = tone < 0 ? few : DATA.ramps.error[tone];
    context.fillRect(x0, y0, x1 - x0 + 0.6, y1 - y0 + 0.6);
  }
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `Retention map of ${run.name}`);
  const share = (t) => (100 * (Math.log2(t) - left)) / (right - left);
  const inside = edges[run.map.steps.findIndex((step) => step >= run.L0) + 1] ?? right;
  const boundary = element("div", { className: "boundary" });
  boundary.style.left = `${(100 * (inside - left)) / (right - left)}%`;
  const cursor = element("div", { className: "cursor" });
  const frame = element("div", { className: "map" }, canvas, boundary, cursor);
  const oldest = plain(2 ** DATA.maps.oldest - 1);
  const ages = [["not read", -1.1], ["just read", 1], [`${oldest} ago`, top - 0.5]].map(([text, y]) => {
    const label = element("span", { className: "age", textContent: text });
    label.style.top = `${(100 * (top - y)) / (top + STRIP)}%`;
    return label;
  });
  const ends = [run.map.steps[0], run.L0, run.map.steps.at(-1)].map((t, k) => {
    const label = element("span", { className: "end", textContent: k === 1 ? "L0" : plain(t) });
    label.style.left = `${k === 1 ? boundary.style.left.replace("%", "") : share(t)}%`;
    return label;
  });
  const title = element("h3", {}, swatchOf(run), element("span", { textContent: run.name }));
  const axis = element("div", { className: "ends" }, ...ends);
  box.append(element("figure", {}, title, element("div", { className: "with-ages" }, element("div", { className: "ages" }, ...ages), frame, axis)));
  onPointer(frame, (x) => jump(2 ** (left + (x / frame.clientWidth) * (right - left))));
  return { move: (t) => (cursor.style.left = `${share(t)}%`) };
}
