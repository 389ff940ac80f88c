// What one sees, in words.

const LEVEL_WITH = 0.05;

// The level of a run after t steps: as measured, or between the measured neighbours on the line that is drawn.
function levelAt(run, t) {
  const [steps, levels] = run.curve;
  const k = steps.findIndex((step) => step >= t);
  if (k < 0) return { level: levels.at(-1), measured: false };
  if (steps[k] === t || k === 0) return { level: levels[k], measured: steps[k] === t };
  const share = Math.log(t / steps[k - 1]) / Math.log(steps[k] / steps[k - 1]);
  return { level: levels[k - 1] + share * (levels[k] - levels[k - 1]), measured: false };
}

const plain = (number) => number.toLocaleString("en").replaceAll(",", "\u202f");

function times(t, L0) {
  const ratio = t / L0;
  if (t === L0) return "= L0";
  return ratio < 1 ? `= L0 / ${Number((1 / ratio).toPrecision(2))}` : `= ${Number(ratio.toPrecision(2))} L0`;
}

// The training length of the runs that are shown, where all have the same.
function commonLength(view) {
  const lengths = new Set(view.runs.map((name) => RUNS.get(name).L0));
  return lengths.size === 1 ? [...lengths][0] : null;
}

// One sentence about every run that is shown, as [run or nothing, text] parts.
function sentenceParts(view) {
  const t = STEPS[view.at];
  const one = commonLength(view) !== null;
  const clauses = view.runs.map((name, position) => [RUNS.get(name), clause(RUNS.get(name), t, position === 0 || !one)]);
  return [[null, `At t = ${plain(t)}, `], ...clauses.map(([run, text], k) => [run, text + (k === clauses.length - 1 ? "." : "; ")])];
}

const sentence = (view) => sentenceParts(view).map(([run, text]) => (run ? run.name : "") + text).join("");

// What follows a run's name.
function clause(run, t, withLength) {
  const unit = DATA.metric.unit ? ` ${DATA.metric.unit}` : "";
  const points = DATA.metric.change ? ` ${DATA.metric.change}` : "";
  const { level, measured } = levelAt(run, t);
  const difference = level - levelAt(run, run.L0).level;
  const own = withLength ? ` its level at L0 = ${plain(run.L0)}` : "";
  if (t === run.L0) return ` is at its training length (${level.toFixed(1)}${unit})`;
  if (Math.abs(difference) < LEVEL_WITH) return ` is as good as at L0${withLength ? ` = ${plain(run.L0)}` : ""}`;
  const about = measured ? "" : "about ";
  return ` is ${about}${Math.abs(difference).toFixed(1)}${points} ${difference < 0 ? "below" : "above"}${own}`;
}
