// What one sees, in words.

const LEVEL_WITH = 0.05;

const plain = (number) => String(number).replace(/\B(?=(\d{3})+$)/g, "\u202f"); // of whole numbers; the browser's own takes long to load

const withUnit = (level, metric) => `${level.toFixed(1)}${metric.unit ? ` ${metric.unit}` : ""}`;

// The training lengths of the runs that are shown, ascending.
const lengthsOf = (view) => [...new Set(view.runs.map((name) => RUNS.get(name).L0))].sort((a, b) => a - b);

// Where t stands among training lengths: as a multiple or a part of one where that is exact, else on which side of each.
function times(t, lengths) {
  if (lengths.length > 1) {
    if (t > lengths.at(-1)) return "beyond every L0";
    if (t < lengths[0]) return "before every L0";
    const sides = [["beyond", lengths.filter((L0) => L0 < t)], ["at", lengths.filter((L0) => L0 === t)], ["before", lengths.filter((L0) => L0 > t)]];
    const said = sides.filter(([, some]) => some.length).map(([side, some]) => `${side} ${some.map(plain).join(", ")}`);
    return `L0: ${said.join(", ")}`;
  }
  const [L0] = lengths;
  if (t === L0) return "= L0";
  if (t < L0) return L0 % t ? "before L0" : `= L0 / ${plain(L0 / t)}`;
  return (2 * t) % L0 ? "beyond L0" : `= ${t % L0 ? t / L0 : plain(t / L0)} L0`;
}

// One sentence about every run that is shown, and one about the remedy, as [run or nothing, text] parts.
function sentenceParts(view) {
  const t = STEPS[view.at];
  const one = lengthsOf(view).length === 1;
  const runs = view.runs.map((name) => RUNS.get(name));
  const training = view.seed === null ? "" : `in the training with seed ${view.seed}, `;
  const first = runs.findIndex((run) => curveOf(run, view, METRICS[0]));
  const clauses = runs.map((run, k) => [run, kindOf(run) + clause(run, view, t, k === first || !one)]);
  const parts = [[null, `At t = ${plain(t)}, ${training}`], ...joined(clauses)];
  if (view.remedy === null) return parts;
  return [...parts, [null, ` With ${view.remedy}, `], ...joined(runs.map((run) => [run, remedyClause(run, view, t)]))];
}

const SEVERAL_KINDS = new Set(DATA.runs.map((run) => run.kind)).size > 1;

const kindOf = (run) => (SEVERAL_KINDS ? ` (${run.kind})` : "");

const joined = (clauses) => clauses.map(([run, text], k) => [run, text + (k === clauses.length - 1 ? "." : "; ")]);

const sentence = (view) => sentenceParts(view).map(([run, text]) => (run ? run.name : "") + text).join("");

// What follows a run's name.
function clause(run, view, t, withLength) {
  const [metric, ...others] = METRICS;
  const curve = curveOf(run, view, metric);
  if (!curve) return run.levels[view.order] ? ` was not trained with seed ${view.seed}` : ` was read in order ${view.order} under remedies alone`;
  const now = levelAt(curve, t);
  if (!now) return ` was read from t = ${plain(curve.t[0])} to ${plain(curve.t.at(-1))}`;
  return againstL0(now, levelAt(curve, run.L0).level, run, t, withLength, metric) + others.map((other) => named(run, view, t, other)).join("");
}

function againstL0(now, atL0, run, t, withLength, metric) {
  const level = ` has ${now.measured ? "" : "about "}${withUnit(now.level, metric)}`;
  const points = metric.change ? ` ${metric.change}` : "";
  const difference = now.level - atL0;
  if (t === run.L0) return `${level}, at its ${run.one ? "" : "longest "}training length`;
  if (Math.abs(difference) < LEVEL_WITH) return `${level}, as at L0${withLength ? ` = ${plain(run.L0)}` : ""}`;
  const own = withLength ? ` its level at L0 = ${plain(run.L0)}` : "";
  return `${level}, ${Math.abs(difference).toFixed(1)}${points} ${difference < 0 ? "below" : "above"}${own}`;
}

// How many classes a run names rightly, beside what it draws.
function named(run, view, t, metric) {
  const curve = curveOf(run, view, metric);
  const now = curve && levelAt(curve, t);
  if (!now) return "";
  const atL0 = t === run.L0 ? "" : `, at L0 ${levelAt(curve, run.L0).level.toFixed(0)} %`;
  return `, and names ${now.measured ? "" : "about "}${now.level.toFixed(0)} % of the classes rightly${atL0}`;
}

function remedyClause(run, view, t) {
  const [metric, ...others] = METRICS;
  const found = underRemedy(run, view, metric);
  const tried = DATA.remedies.runs[run.name] && DATA.remedies.runs[run.name][view.remedy];
  if (!found) return tried ? ` was not tried in order ${view.order}` : " was not tried";
  const [remedied, trained] = [found.remedied, found.trained].map((curve) => levelAt(curve, t));
  if (!remedied || !trained) return ` was read from t = ${plain(found.remedied.t[0])} to ${plain(found.remedied.t.at(-1))}`;
  const difference = remedied.level - trained.level;
  const points = metric.change ? ` ${metric.change}` : "";
  const about = remedied.measured && trained.measured ? "" : "about ";
  const levels = ` (${remedied.level.toFixed(1)}, as trained ${withUnit(trained.level, metric)})`;
  const change =
    Math.abs(difference) < LEVEL_WITH
      ? " is as good as without it"
      : ` is ${about}${Math.abs(difference).toFixed(1)}${points} ${difference < 0 ? "below" : "above"} itself as trained`;
  return change + levels + others.map((other) => namedUnder(run, view, t, other)).join("");
}

function namedUnder(run, view, t, metric) {
  const found = underRemedy(run, view, metric);
  const both = found && [found.remedied, found.trained].map((curve) => levelAt(curve, t));
  if (!both || both.some((one) => !one)) return "";
  return `, and names ${both[0].level.toFixed(0)} % of the classes rightly, as trained ${both[1].level.toFixed(0)} %`;
}

// What pictures and maps are of, where that is not what was chosen.
function notOfThese(view, seed) {
  const missing = [
    view.seed !== null && view.seed !== seed ? `of seed ${view.seed}` : "",
    view.order === DATA.orders[0] ? "" : `in order ${view.order}`,
    view.remedy === null ? "" : "under a remedy",
  ].filter(Boolean);
  return missing.length ? ` None are kept ${missing.join(" or ")}.` : "";
}

const asRead = () => (DATA.orders.length > 1 ? `, read in order ${DATA.orders[0]}` : "") + (DATA.remedies ? ", without a remedy" : "");

const aboutPictures = (view) => `Pictures: trainings with seed ${DATA.pictures.seed}${asRead()}.${notOfThese(view, DATA.pictures.seed)}`;

const aboutMaps = (view) => `Maps are means over all trainings${asRead()}.${notOfThese(view, null)}`;

function aboutLines(view, samples) {
  const many = DATA.n.seeds.at(-1) > 1;
  const mean = many ? `lines: mean of ${DATA.n.seeds.join(" or ")} trainings, bands: lowest to highest` : "one training";
  return `${plain(samples)} ${DATA.n.split} samples; ${view.seed === null ? mean : `lines: training with seed ${view.seed}, bands: lowest to highest of all`}`;
}

function aboutRemedy(view) {
  const runs = Object.keys(DATA.remedies.runs);
  const found = view.runs.map((name) => underRemedy(RUNS.get(name), view, METRICS[0])).filter(Boolean);
  const mixed = view.seed !== null && found.some(({ apart }) => !apart) ? " Trainings are not kept apart here: these are means." : "";
  const tried = `Tried on ${runs.join(", ")}. Thick: with ${view.remedy}, thin: the same model as trained, on the same ${plain(DATA.remedies.images)} samples.`;
  return `${view.remedy}: ${REMEDIES.get(view.remedy).words}. ${tried} Under remedies only these levels are kept, no pictures.${mixed}`;
}
