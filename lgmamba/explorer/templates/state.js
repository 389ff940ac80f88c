"use strict";
// What is shown: image, step and models; how a view is written as an address and read back.

const DATA = JSON.parse(document.getElementById("data").textContent);
const RUNS = new Map(DATA.runs.map((run) => [run.name, run]));
const STEPS = DATA.steps;
const IMAGES = DATA.pictures ? DATA.pictures.images.length : 0;

const byId = (id) => document.getElementById(id);

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
  const number = (name) => (/^\d+$/.test(asked.get(name) || "") ? Number(asked.get(name)) : 0);
  const runs = [...new Set((asked.get("runs") || "").split(","))].filter((name) => RUNS.has(name)).slice(0, DATA.most);
  return {
    image: Math.min(Math.max(number("i"), 1), Math.max(IMAGES, 1)) - 1,
    at: nearestStep(number("t") || DATA.start),
    runs: runs.length ? runs : [...DATA.shown],
  };
}

function addressOf(view) {
  const image = IMAGES ? `i=${view.image + 1}&` : "";
  return `#${image}t=${STEPS[view.at]}&runs=${view.runs.join(",")}`;
}
