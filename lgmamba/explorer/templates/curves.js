// Levels against the step, drawn by uPlot; the cursor is an element of its own, so that sliding draws nothing anew.

const LINE = 2;
const LABELLED_FROM = 620; // pixels of width from which on lines have their names beside them

const styleOf = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function curveData(runs, baselines) {
  const steps = [...new Set([...runs, ...baselines].flatMap((line) => line.curve[0]))].sort((a, b) => a - b);
  const column = (line, k) => {
    const values = new Map(line.curve[0].map((step, position) => [step, line.curve[k][position]]));
    return steps.map((step) => (values.has(step) ? values.get(step) : null));
  };
  return [steps, ...runs.flatMap((run) => [1, 2, 3].map((k) => column(run, k))), ...baselines.map((line) => column(line, 1))];
}

function levelsInView(runs, baselines) {
  const lines = [...runs.flatMap((run) => run.curve.slice(2)), ...baselines.filter((line) => !line.leaves).map((line) => line.curve[1])];
  const values = lines.flat();
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const room = Math.max(high - low, 1);
  return [low - 0.06 * room, high + 0.08 * room];
}

function seriesOf(runs, baselines) {
  const grey = styleOf("--muted");
  const dash = (line, width) => line.dash.map((length) => length * width);
  return [
    {},
    ...runs.flatMap((run) => [
      { stroke: run.colour, width: LINE, dash: dash(run, LINE), spanGaps: true, points: { show: false } },
      { stroke: "transparent", width: 0, spanGaps: true, points: { show: false } },
      { stroke: "transparent", width: 0, spanGaps: true, points: { show: false } },
    ]),
    ...baselines.map((line) => ({ stroke: grey, width: 1, dash: dash(line, 1.6), spanGaps: true, points: { show: false } })),
  ];
}

// Names beside the ends of lines, pushed apart where they would meet; dots and dashes at training lengths.
function drawNames(plot, runs, baselines, labelled) {
  const { ctx, bbox } = plot;
  const ratio = devicePixelRatio;
  const toY = (level) => plot.valToPos(level, "y", true);
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
  for (const run of runs) {
    ctx.fillStyle = run.colour;
    ctx.strokeStyle = styleOf("--page");
    ctx.lineWidth = 1.5 * ratio;
    ctx.beginPath();
    ctx.arc(plot.valToPos(run.L0, "x", true), toY(levelAt(run, run.L0).level), 4.5 * ratio, 0, 7);
    ctx.fill();
    ctx.stroke();
  }
  if (labelled) {
    const lines = [...runs, ...baselines.filter((line) => !line.leaves)];
    const names = lines.map((line) => ({ text: line.name, y: toY(line.curve[1].at(-1)), colour: line.colour })).sort((a, b) => a.y - b.y);
    names.forEach((name, k) => (name.y = k ? Math.max(name.y, names[k - 1].y + 16 * ratio) : name.y));
    const over = names.length ? names.at(-1).y - (bbox.top + bbox.height) : 0;
    ctx.font = `${12.5 * ratio}px system-ui, sans-serif`;
    ctx.textBaseline = "middle";
    ctx.textAlign = "left";
    for (const name of names) {
      const [x, y] = [bbox.left + bbox.width + 8 * ratio, name.y - Math.max(over, 0)];
      ctx.fillStyle = name.colour || styleOf("--muted");
      ctx.fillRect(x, y - 1.5 * ratio, 10 * ratio, 3 * ratio);
      ctx.fillStyle = name.colour ? styleOf("--text") : styleOf("--muted");
      ctx.fillText(name.text, x + 15 * ratio, y);
    }
  }
  if (labelled) nameLeaving(plot, baselines.filter((line) => line.leaves));
  ctx.restore();
}

// Baselines that leave the view have their names where they do, beside each other's lines.
function nameLeaving(plot, baselines) {
  const { ctx, bbox } = plot;
  const top = plot.scales.y.max;
  ctx.fillStyle = styleOf("--muted");
  ctx.textAlign = "right";
  baselines.forEach((line, k) => {
    const [steps, levels] = line.curve;
    const at = levels.findIndex((level) => level > top);
    if (at < 1) return;
    const share = (top - levels[at - 1]) / (levels[at] - levels[at - 1]);
    const x = plot.valToPos(steps[at - 1] * (steps[at] / steps[at - 1]) ** share, "x", true);
    ctx.fillText(line.name.split(":")[0], x - 10 * devicePixelRatio, bbox.top + (10 + 17 * k) * devicePixelRatio);
  });
}

function roomForNames(lines) {
  const context = element("canvas").getContext("2d");
  context.font = "12.5px system-ui, sans-serif";
  return Math.ceil(Math.max(...lines.map((line) => context.measureText(line.name).width))) + 30;
}

// The plot of these runs in a box; returns what moves its cursor and what takes it away.
function plotCurves(box, runs, jump) {
  const baselines = DATA.baselines;
  const width = box.clientWidth;
  const labelled = width >= LABELLED_FROM;
  const [text, grid] = [styleOf("--muted"), styleOf("--line")];
  const font = "12px system-ui, sans-serif";
  const axis = { stroke: text, font, gap: 4, grid: { stroke: grid, width: 1 }, ticks: { stroke: grid, width: 1, size: 4 }, labelFont: font, labelSize: 18 };
  const data = curveData(runs, baselines);
  const steps = data[0];
  const bands = runs.map((run, k) => ({ series: [3 * k + 3, 3 * k + 2], fill: `${run.colour}38` }));
  const unit = DATA.metric.unit ? ` (${DATA.metric.unit})` : "";
  const cursor = element("div", { className: "cursor" });
  const dots = runs.map((run) => element("span", { className: "dot" }));
  dots.forEach((dot, k) => (dot.style.background = runs[k].colour));
  let at = null;
  const plot = new uPlot(
    {
      width,
      height: Math.round(Math.min(360, Math.max(230, width * 0.42))),
      padding: [10, labelled ? roomForNames([...runs, ...baselines.filter((line) => !line.leaves)]) : 12, 0, 0],
      cursor: { show: false },
      legend: { show: false },
      scales: { x: { time: false, distr: 3, log: 2, range: [steps[0], steps.at(-1)] }, y: { range: levelsInView(runs, baselines) } },
      axes: [
        { ...axis, label: `step t (${DATA.read} read)`, space: 34, size: 28, values: (_, ticks) => ticks.map((tick) => (tick === null ? "" : tick)) },
        { ...axis, label: `${DATA.metric.label}${unit}`, size: 38 },
      ],
      series: seriesOf(runs, baselines),
      bands,
      hooks: {
        draw: [
          (drawn) => {
            drawNames(drawn, runs, baselines, labelled);
            if (at) move(at); // its scales are known from here on
          },
        ],
      },
    },
    data,
    box,
  );
  plot.over.append(cursor, ...dots);
  onPointer(plot.over, (x) => jump(plot.posToVal(x, "x")));
  function move(t) {
    at = t;
    const x = plot.valToPos(t, "x");
    cursor.style.transform = `translateX(${x}px)`;
    dots.forEach((dot, k) => (dot.style.transform = `translate(${x}px, ${plot.valToPos(levelAt(runs[k], t).level, "y")}px)`));
  }
  return { move, remove: () => plot.destroy() };
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
