// The page: controls, and what follows from each of them.

const view = readAddress(location.hash);
const shown = { read: null, runs: [], curves: null, maps: [] };
const PACE = 280; // milliseconds a step while playing
let playing = null;
let spoken = null;
let written = null;

function swatchOf(run) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const line = document.createElementNS("http://www.w3.org/2000/svg", "line");
  const set = (node, values) => Object.entries(values).forEach(([name, value]) => node.setAttribute(name, value));
  set(svg, { viewBox: "0 0 22 8", class: "swatch", "aria-hidden": "true" });
  set(line, { x1: 1, x2: 21, y1: 4, y2: 4, stroke: run.colour, "stroke-width": 3, "stroke-dasharray": run.dash.map((d) => 2 * d).join(" ") });
  svg.append(line);
  return svg;
}

function nameOf(run) {
  const name = element("b", { textContent: run.name });
  name.style.textDecorationColor = run.colour;
  return name;
}

function makeChoices() {
  for (let i = 0; i < IMAGES; i++) {
    const input = element("input", { type: "radio", name: "image", value: i });
    const picture = element("img", { src: `data:image/webp;base64,${P.images[i].webp}`, alt: `Image ${i + 1}` });
    byId("images").querySelector(".thumbs").append(element("label", { className: "thumb" }, input, picture));
    input.addEventListener("change", () => change({ image: i }));
  }
  for (const run of DATA.runs) {
    const input = element("input", { type: "checkbox", name: "run", value: run.name });
    const words = element("span", {}, element("b", { textContent: run.name }), " ", element("small", { textContent: run.words }));
    byId("runs").querySelector(".chips").append(element("label", { className: "chip", title: run.words }, input, swatchOf(run), words));
    input.addEventListener("change", () => {
      const others = view.runs.filter((name) => name !== run.name);
      const order = [...RUNS.keys()];
      const asked = input.checked ? [...others, run.name].sort((a, b) => order.indexOf(a) - order.indexOf(b)) : others;
      change({ runs: asked.length ? asked.slice(0, DATA.most) : view.runs });
    });
  }
}

function makeTime() {
  const slider = byId("slider");
  slider.max = STEPS.length - 1;
  slider.addEventListener("input", () => change({ at: Number(slider.value) }));
  byId("back").addEventListener("click", () => go(-1));
  byId("forward").addEventListener("click", () => go(1));
  byId("play").addEventListener("click", play);
  document.addEventListener("keydown", onKey);
}

function go(by) {
  change({ at: view.at + by });
}

function onKey(event) {
  if (event.altKey || event.ctrlKey || event.metaKey) return;
  const own = event.target.closest("input, button, a, summary, textarea, select");
  const acts = { ArrowLeft: () => go(-1), ArrowRight: () => go(1), Home: () => change({ at: 0 }), End: () => change({ at: STEPS.length - 1 }), " ": play };
  const act = acts[event.key];
  if (!act) return;
  const slides = own === byId("slider");
  if (event.key === " " ? own && !slides : slides || (own && own.type === "radio")) return; // theirs
  event.preventDefault();
  act();
}

function play() {
  if (playing) return pause();
  if (view.at === STEPS.length - 1) change({ at: 0 });
  playing = setInterval(() => {
    change({ at: view.at + 1 }, true);
    if (view.at === STEPS.length - 1) pause();
  }, PACE);
  markPlaying();
}

function pause() {
  clearInterval(playing);
  playing = null;
  markPlaying();
}

function markPlaying() {
  byId("play").setAttribute("aria-pressed", Boolean(playing));
  byId("play").querySelector("span").textContent = playing ? "Pause" : "Play";
}

// Every change of the view comes here; what moves by itself goes on, anything else stops it.
function change(changes, moving = false) {
  if (playing && !moving) pause();
  const runs = changes.runs && changes.runs.join() !== view.runs.join();
  Object.assign(view, changes);
  view.at = Math.min(Math.max(view.at, 0), STEPS.length - 1);
  if (runs) lay();
  requestFrame();
}

function requestFrame() {
  if (requestFrame.asked) return;
  requestFrame.asked = true;
  requestAnimationFrame(() => {
    requestFrame.asked = false;
    show();
  });
}

// What depends on which runs are shown, and on size and colours of the page.
function lay() {
  const runs = view.runs.map((name) => RUNS.get(name));
  if (P) {
    shown.read = shown.read || readCards();
    shown.runs = runs.map(runCard);
    byId("pictures").replaceChildren(shown.read.image.node, shown.read.read.node, ...shown.runs.map((card) => card.node));
    byId("pictures").style.setProperty("--cards", 2 + runs.length);
  }
  layPlots();
  const lengths = [...new Set(runs.map((run) => run.L0))].sort((a, b) => a - b);
  const ends = [STEPS[0], STEPS.at(-1)].map((t) => [t, plain(t), "end"]);
  const marks = [...ends, ...lengths.map((t) => [t, lengths.length > 1 ? plain(t) : `L0 = ${plain(t)}`, "mark"])];
  byId("ticks").replaceChildren(
    ...marks.map(([t, text, className]) => {
      const tick = element("span", { className, textContent: text });
      tick.style.setProperty("--at", placeOnSlider(t));
      return tick;
    }),
  );
}

function layPlots() {
  const runs = view.runs.map((name) => RUNS.get(name));
  const jump = (t) => change({ at: nearestStep(t) });
  if (shown.curves) shown.curves.remove();
  shown.curves = plotCurves(byId("curves"), runs, jump);
  if (DATA.maps) {
    byId("maps").replaceChildren();
    shown.maps = runs.map((run) => plotMap(byId("maps"), run, jump));
  }
}

function show() {
  const t = STEPS[view.at];
  byId("slider").value = view.at;
  const L0 = commonLength(view);
  const relation = L0 === null ? "" : times(t, L0);
  byId("slider").setAttribute("aria-valuetext", `t = ${t} ${relation}`.trim());
  byId("slider").style.setProperty("--at", view.at / (STEPS.length - 1));
  byId("step").textContent = `t = ${plain(t)}`;
  byId("relation").textContent = relation;
  byId("relation").className = L0 !== null && t > L0 ? "beyond" : "";
  byId("sentence").replaceChildren(...sentenceParts(view).flatMap(([run, text]) => (run ? [nameOf(run), text] : [text])));
  byId("curves").setAttribute("aria-label", `${DATA.metric.label} against the step. ${sentence(view)}`);
  byId("link").href = addressOf(view);
  shown.curves.move(t);
  shown.maps.forEach((map) => map.move(t));
  markChoices();
  clearTimeout(spoken);
  spoken = setTimeout(() => (byId("live").textContent = sentence(view)), 600);
  clearTimeout(written);
  written = setTimeout(() => history.replaceState(null, "", addressOf(view)), 250);
  const now = { ...view };
  const pictures = P ? [showRead(shown.read, now), ...shown.runs.map((card) => showRun(card, now))] : [];
  Promise.all(pictures).then(() => (byId("explorer").dataset.shown = addressOf(now)));
}

function markChoices() {
  for (const input of document.querySelectorAll("#images input")) input.checked = Number(input.value) === view.image;
  for (const input of document.querySelectorAll("#runs input")) {
    input.checked = view.runs.includes(input.value);
    input.disabled = !input.checked && view.runs.length === DATA.most;
  }
}

function ramp(id, shades) {
  if (byId(id)) byId(id).style.background = `linear-gradient(to right, ${shades.join(", ")})`;
}

async function copyLink() {
  try {
    await navigator.clipboard.writeText(byId("link").href);
    byId("copied").textContent = "copied";
  } catch {
    byId("copied").textContent = "the link above can be copied by hand";
  }
  setTimeout(() => (byId("copied").textContent = ""), 2500);
}

byId("explorer").hidden = false;
makeChoices();
makeTime();
ramp("error-ramp", DATA.ramps.error);
ramp("age-ramp", DATA.ramps.age);
byId("copy").addEventListener("click", copyLink);
addEventListener("hashchange", () => {
  const asked = readAddress(location.hash);
  change(asked);
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  layPlots();
  requestFrame();
});
let width = innerWidth;
addEventListener("resize", () => {
  if (innerWidth === width) return; // a phone's address bar comes and goes
  width = innerWidth;
  layPlots();
  requestFrame();
});
lay();
show();
