// Levels against the step, drawn by uPlot; the cursor is an element of its own, so that sliding draws nothing anew.

const LINE = 2;
const LABELLED_FROM = 620; // pixels of width from which on lines have their names beside them

const styleOf = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// Lines of the runs that are shown: {name, colour, dash, width, L0, curve, band, named}; baselines have no colour.
function levelLines(view, metric) {
  return view.runs.map((name) => RUNS.get(name)).map((run) => lineOf(run, curveOf(run, view, metric))).filter((line) => line.curve);
}

function baselineLines(view, metric) {
  const found = DATA.baselines.map((line) => ({ ...line, width: 1, named: !line.leaves, curve: (line.levels[view.order] || {})[metric.level] }));
  return found.filter((line) => line.curve);
}

// Of each run that the remedy was tried on: with it, and thin, as trained.
function remedyLines(view, metric) {
  const found = view.runs.map((name) => [RUNS.get(name), underRemedy(RUNS.get(name), view, metric)]).filter(([, both]) => both);
  return found.flatMap(([run, { remedied, trained }]) => [
    { ...lineOf(run, trained), name: found.length > 1 ? "" : "as trained", width: 1, band: false, named: found.length === 1 },
    { ...lineOf(run, remedied), name: found.length > 1 ? run.name : `with ${view.remedy}`, width: 3 },
  ]);
}

function lineOf(run, curve) {
  return { name: run.name, colour: run.colour, dash: run.dash, width: LINE, L0: run.L0, curve, band: true, named: true };
}

function curveData(lines) {
  const steps = [...new Set(lines.flatMap((line) => line.curve.t))].sort((a, b) => a - b);
  const column = (line, name) => {
    const values = new Map(line.curve.t.map((step, k) => [step, line.curve[name][k]]));
    return steps.map((step) => (values.has(step) ? values.get(step) : null));
  };
  return [steps, ...lines.flatMap((line) => (line.band ? ["mean", "low", "high"] : ["mean"]).map((name) => column(line, name)))];
}

function levelsInView(lines) {
  const values = lines.filter((line) => !line.leaves).flatMap((line) => [...line.curve.mean, ...(line.band ? [...line.curve.low, ...line.curve.high] : [])]);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const room = Math.max(high - low, 1);
  return [low - 0.06 * room, high + 0.08 * room];
}

// One series for each line, and two without a stroke for the ends of its band.
function seriesOf(lines) {
  const edge = { stroke: "transparent", width: 0, spanGaps: true, points: { show: false } };
  const series = [{}];
  const bands = [];
  for (const line of lines) {
    const stroke = line.colour || styleOf("--muted");
    const dash = line.dash.map((length) => length * (line.colour ? line.width : 1.6));
    series.push({ stroke, width: line.width, dash, spanGaps: true, points: { show: false } });
    if (!line.band) continue;
    bands.push({ series: [series.length + 1, series.length], fill: `${line.colour}38` });
    series.push(edge, edge);
  }
  return { series, bands };
}

// Names beside the ends of lines, pushed apart where they would meet; dots and dashes at training lengths.
function drawNames(plot, lines, labelled) {
  const { ctx, bbox } = plot;
  const ratio = devicePixelRatio;
  const toY = (level) => plot.valToPos(level, "y", true);
  const runs = lines.filter((line) => line.colour);
  ctx.save();
  for (const L0 of new Set(runs.map((run) => run.L0))) {
    const x = plot.valToPos(L0, "x", true);
    ctx.strokeStyle = styleOf("--muted");
    ctx.lineWidth = ratio;
    ctx.setLineDash([4 * ratio, 4 * ratio]);
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
  }
  ctx.setLineDash([]);
  for (const run of runs.filter((line) => line.band)) {
    const at = levelAt(run.curve, run.L0);
    if (!at) continue;
    ctx.fillStyle = run.colour;
    ctx.strokeStyle = styleOf("--page");
    ctx.lineWidth = 1.5 * ratio;
    ctx.beginPath();
    ctx.arc(plot.valToPos(run.L0, "x", true), toY(at.level), 4.5 * ratio, 0, 7);
    ctx.fill();
    ctx.stroke();
  }
  if (labelled) {
    const named = lines.filter((line) => line.named);
    const names = named.map((line) => ({ text: line.name, y: toY(line.curve.mean.at(-1)), line })).sort((a, b) => a.y - b.y);
    names.forEach((name, k) => (name.y = k ? Math.max(name.y, names[k - 1].y + 16 * ratio) : name.y));
    const over = names.length ? names.at(-1).y - (bbox.top + bbox.height) : 0;
    ctx.font = `${12.5 * ratio}px system-ui, sans-serif`;
    ctx.textBaseline = "middle";
    ctx.textAlign = "left";
    for (const { text, y, line } of names) {
      const [x, middle] = [bbox.left + bbox.width + 8 * ratio, y - Math.max(over, 0)];
      const thick = Math.min(line.width + 1, 4) * ratio;
      ctx.fillStyle = line.colour || styleOf("--muted");
      ctx.fillRect(x, middle - thick / 2, 10 * ratio, thick);
      ctx.fillStyle = line.colour ? styleOf("--text") : styleOf("--muted");
      ctx.fillText(text, x + 15 * ratio, middle);
    }
    nameLeaving(plot, lines.filter((line) => line.leaves));
  }
  ctx.restore();
}

// Baselines that leave the view have their names where they do, beside each other's lines.
function nameLeaving(plot, lines) {
  const { ctx, bbox } = plot;
  const top = plot.scales.y.max;
  ctx.textAlign = "left";
  lines.forEach((line, k) => {
    const { t, mean } = line.curve;
    const at = mean.findIndex((level) => level > top);
    if (at < 1) return;
    const share = (top - mean[at - 1]) / (mean[at] - mean[at - 1]);
    const x = plot.valToPos(t[at - 1] * (t[at] / t[at - 1]) ** share, "x", true);
    const ratio = devicePixelRatio;
    const text = line.name.split(":")[0];
    const width = ctx.measureText(text).width;
    const left = x - 10 * ratio - width < bbox.left ? x + 10 * ratio : x - 10 * ratio - width; // right of a line that leaves at once
    const middle = bbox.top + (10 + 17 * k) * ratio;
    ctx.fillStyle = styleOf("--page"); // so that no line, nor the cursor's, runs through them
    ctx.fillRect(left - 3 * ratio, middle - 8 * ratio, width + 6 * ratio, 16 * ratio);
    ctx.fillStyle = styleOf("--muted");
    ctx.fillText(text, left, middle);
  });
}

// Names of lines where there is no room beside them.
function keyOf(lines) {
  const named = lines.filter((line) => line.name && (line.named || line.leaves));
  const entry = (line) => element("span", {}, swatchOf({ ...line, colour: line.colour || "currentColor" }), line.name.split(":")[0]);
  return element("p", { className: "hint key" }, ...named.map(entry));
}

// Pixels that the names of lines take, one width for all plots so that their steps stand above each other.
function roomForNames(lines) {
  const context = element("canvas").getContext("2d");
  context.font = "12.5px system-ui, sans-serif";
  return Math.ceil(Math.max(0, ...lines.filter((line) => line.named).map((line) => context.measureText(line.name).width))) + 30;
}

// The plot of these lines in a box, from the first step of `ends` to the last; returns what moves its cursor and what takes it away.
function plotLines(box, lines, metric, ends, room, jump) {
  const width = box.clientWidth;
  const labelled = width >= LABELLED_FROM;
  const [text, grid] = [styleOf("--muted"), styleOf("--line")];
  const font = "12px system-ui, sans-serif";
  const axis = { stroke: text, font, gap: 4, grid: { stroke: grid, width: 1 }, ticks: { stroke: grid, width: 1, size: 4 }, labelFont: font, labelSize: 18 };
  const data = curveData(lines);
  const unit = metric.unit ? ` (${metric.unit})` : "";
  const cursor = element("div", { className: "cursor" });
  const dotted = lines.filter((line) => line.colour);
  const dots = dotted.map((line) => element("span", { className: line.band ? "dot" : "dot small" }));
  dots.forEach((dot, k) => (dot.style.background = dotted[k].colour));
  let at = null;
  const plot = new uPlot(
    {
      width,
      height: Math.round(Math.min(360, Math.max(230, width * 0.42))),
      padding: [10, labelled ? room : 12, 0, 0],
      cursor: { show: false },
      legend: { show: false },
      scales: { x: { time: false, distr: 3, log: 2, range: ends }, y: { range: levelsInView(lines) } },
      axes: [
        { ...axis, label: `step t (${DATA.read} read)`, space: 34, size: 28, values: (_, ticks) => ticks.map((tick) => (tick === null ? "" : tick)) },
        { ...axis, label: `${metric.label}${unit}`, size: 38 },
      ],
      ...seriesOf(lines),
      hooks: {
        draw: [
          (drawn) => {
            drawNames(drawn, lines, labelled);
            if (at) move(at); // its scales are known from here on
          },
        ],
      },
    },
    data,
    box,
  );
  plot.under.append(cursor); // below lines and names
  plot.over.append(...dots);
  const key = labelled ? null : keyOf(lines);
  if (key) box.append(key);
  onPointer(plot.over, (x) => jump(plot.posToVal(x, "x")));
  function move(t) {
    at = t;
    const x = plot.valToPos(t, "x");
    cursor.style.transform = `translateX(${x}px)`;
    dots.forEach((dot, k) => {
      const now = levelAt(dotted[k].curve, t);
      dot.hidden = !now;
      if (now) dot.style.transform = `translate(${x}px, ${plot.valToPos(now.level, "y")}px)`;
    });
  }
  const remove = () => {
    plot.destroy();
    key?.remove();
  };
  return { move, remove };
}

// Clicks and drags across a box, as pixels from its left end.
function onPointer(box, act) {
  const tell = (event) => act(Math.min(Math.max(event.clientX - box.getBoundingClientRect().left, 0), box.clientWidth));
  box.addEventListener("pointerdown", (event) => {
    if (event.button === 0) tell(event);
  });
  box.addEventListener("pointermove", (event) => {
    if (event.buttons & 1) tell(event);
  });
}
