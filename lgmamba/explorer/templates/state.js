"use strict";
// What is shown: image, step, models, training, order and remedy; how a view is written as an address and read back.

const DATA = JSON.parse(document.getElementById("data").textContent);
const RUNS = new Map(DATA.runs.map((run) => [run.name, run]));
const STEPS = DATA.steps;
const IMAGES = DATA.pictures ? DATA.pictures.images.length : 0;
const REMEDIES = new Map(DATA.remedies ? DATA.remedies.entries.map((entry) => [entry.name, entry]) : []);
const METRICS = DATA.metrics.filter(({ level }) => DATA.runs.some((run) => run.levels[DATA.orders[0]][level]));

const byId = (id) => document.getElementById(id);

// The file begins with what the first view needs; the rest is there once all of it was read.
const readToItsEnd = new Promise((resolve) => addEventListener("DOMContentLoaded", resolve));

function element(tag, options = {}, ...children) {
  const made = Object.assign(document.createElement(tag), options);
  made.append(...children);
  return made;
}

function nearestStep(t) {
  const far = (k) => Math.abs(Math.log(STEPS[k] / t));
  return STEPS.reduce((best, _, k) => (far(k) < far(best) ? k : best), 0);
}

// Where a step stands between the first (0) and the last (1), on the slider: in even steps, log between them.
function placeOnSlider(t) {
  const last = STEPS.length - 1;
  if (t <= STEPS[0]) return 0;
  if (t >= STEPS[last]) return 1;
  const k = STEPS.findIndex((step) => step >= t);
  return (k - 1 + Math.log(t / STEPS[k - 1]) / Math.log(STEPS[k] / STEPS[k - 1])) / last;
}

function readAddress(address) {
  const asked = new URLSearchParams(address.replace(/^#/, ""));
  const number = (name) => (/^\d+$/.test(asked.get(name) || "") ? Number(asked.get(name)) : null);
  const runs = [...new Set((asked.get("runs") || "").split(","))].filter((name) => RUNS.has(name)).slice(0, DATA.most);
  return {
    image: Math.min(Math.max(number("i") || 0, 1), Math.max(IMAGES, 1)) - 1,
    at: nearestStep(number("t") || DATA.start),
    runs: runs.length ? runs : [...DATA.shown],
    order: DATA.orders.includes(asked.get("order")) ? asked.get("order") : DATA.orders[0],
    seed: DATA.seeds.includes(number("seed")) ? number("seed") : null,
    remedy: REMEDIES.has(asked.get("remedy")) ? asked.get("remedy") : null,
  };
}

function addressOf(view) {
  const image = IMAGES ? `i=${view.image + 1}&` : "";
  const order = view.order === DATA.orders[0] ? "" : `&order=${view.order}`;
  const seed = view.seed === null ? "" : `&seed=${view.seed}`;
  const remedy = view.remedy === null ? "" : `&remedy=${view.remedy}`;
  return `#${image}t=${STEPS[view.at]}&runs=${view.runs.join(",")}${order}${seed}${remedy}`;
}

// A curve as the view asks for it: the mean over trainings, or one of them; null where that is not known.
function chosen(curve, view) {
  if (!curve || view.seed === null) return curve || null;
  const own = curve.seeds[view.seed];
  return own ? { ...curve, mean: own } : null;
}

const curveOf = (run, view, metric) => chosen((run.levels[view.order] || {})[metric.level], view);

// Under the chosen remedy, {remedied, trained, apart}: both on the same samples, apart says whether trainings are; null: not tried.
function underRemedy(run, view, metric) {
  const tried = DATA.remedies && DATA.remedies.runs[run.name];
  const entry = tried && tried[view.remedy];
  if (!entry || !entry.levels[view.order]) return null;
  const both = [entry, tried[entry.against]].map((one) => one.levels[view.order][metric.level]);
  if (both.some((curve) => !curve)) return null;
  const of = both.map((curve) => chosen(curve, view));
  const apart = of.every((curve) => curve);
  const [remedied, trained] = apart ? of : both;
  return { remedied, trained, apart };
}

// The level on a curve after t steps: as measured, or between the measured neighbours on the line that is drawn; null outside.
function levelAt(curve, t) {
  const { t: steps, mean } = curve;
  const k = steps.findIndex((step) => step >= t);
  if (k < 0 || t < steps[0]) return null;
  if (steps[k] === t) return { level: mean[k], measured: true };
  const share = Math.log(t / steps[k - 1]) / Math.log(steps[k] / steps[k - 1]);
  return { level: mean[k - 1] + share * (mean[k] - mean[k - 1]), measured: false };
}
