// The page: controls, and what follows from each of them.

const view = readAddress(location.hash);
const shown = { read: null, runs: [], plots: [], maps: [], width: null, complete: false };
const PACE = 280; // milliseconds a step while playing
let playing = null;
let spoken = null;
let written = null;

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
  if (event.key === " " ? own && !slides : slides || (own && own.matches("[type=radio], select"))) return; // theirs
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
  const before = laidOut(view);
  Object.assign(view, changes);
  view.at = Math.min(Math.max(view.at, 0), STEPS.length - 1);
  if (laidOut(view) !== before) lay();
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

// What plots and cards depend on.
const laidOut = ({ runs, seed, order, remedy }) => [runs, seed, order, remedy].join();

// What depends on which runs are shown and how, and on size and colours of the page.
function lay() {
  const runs = view.runs.map((name) => RUNS.get(name));
  colourRuns(runs);
  if (P) {
    shown.read = shown.read || readCards();
    shown.runs = runs.map(runCard);
    byId("pictures").replaceChildren(shown.read.image.node, shown.read.read.node, ...shown.runs.map((card) => card.node));
    byId("pictures").style.setProperty("--cards", 2 + runs.length);
  }
  layPlots();
  layWords();
  const lengths = lengthsOf(view);
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

// Curves and maps; none before the first pictures.
function layPlots() {
  if (!shown.complete) return;
  shown.width = innerWidth;
  const runs = view.runs.map((name) => RUNS.get(name));
  const jump = (t) => change({ at: nearestStep(t) });
  shown.plots.forEach((plot) => plot.remove());
  if (DATA.remedies) byId("remedied").hidden = view.remedy === null;
  const asked = METRICS.flatMap((metric) => {
    const levels = { box: byId(`curves-${metric.level}`), metric, lines: [...levelLines(view, metric), ...baselineLines(view, metric)] };
    const remedied = view.remedy === null ? [] : remedyLines(view, metric);
    return [levels, { box: byId(`remedied-${metric.level}`), metric, lines: remedied }].filter(({ lines }) => lines.some((line) => line.colour));
  });
  const steps = asked.flatMap(({ lines }) => lines.flatMap((line) => line.curve.t));
  const ends = [Math.min(...steps), Math.max(...steps)];
  const room = roomForNames(asked.flatMap(({ lines }) => lines));
  shown.plots = asked.map(({ box, metric, lines }) => plotLines(box, lines, metric, ends, room, jump));
  if (DATA.maps) {
    byId("maps").replaceChildren();
    shown.maps = runs.map((run) => plotMap(byId("maps"), run, jump));
  }
}

function layWords() {
  for (const metric of METRICS) byId(`about-${metric.level}`).textContent = `${metric.definition} ${aboutLines(view, DATA.n.images)}. Dots: training length L0. Click to jump.`;
  const differs = (id, words, seed) => {
    byId(id).textContent = words;
    byId(id).classList.toggle("differs", notOfThese(view, seed) !== "");
  };
  if (P) differs("about-pictures", aboutPictures(view), P.seed);
  if (DATA.maps) differs("about-maps", aboutMaps(view), null);
  if (view.remedy === null) return;
  byId("remedied-name").textContent = `${REMEDIES.get(view.remedy).control ? "control" : "remedy"} ${view.remedy}`;
  byId("about-remedy").textContent = aboutRemedy(view);
}

function show() {
  const t = STEPS[view.at];
  byId("slider").value = view.at;
  const lengths = lengthsOf(view);
  const relation = times(t, lengths);
  byId("slider").setAttribute("aria-valuetext", `t = ${t}${relation.startsWith("=") ? "" : ","} ${relation}`);
  byId("slider").style.setProperty("--at", view.at / (STEPS.length - 1));
  byId("step").textContent = `t = ${plain(t)}`;
  byId("relation").textContent = relation;
  byId("relation").className = t > lengths.at(-1) ? "beyond" : "";
  byId("sentence").replaceChildren(...sentenceParts(view).flatMap(([run, text]) => (run ? [nameOf(run), text] : [text])));
  for (const { level, label } of METRICS) byId(`curves-${level}`).setAttribute("aria-label", `${label} against the step. ${sentence(view)}`);
  byId("link").href = addressOf(view);
  shown.plots.forEach((plot) => plot.move(t));
  shown.maps.forEach((map) => map.move(t));
  markChoices();
  clearTimeout(spoken);
  spoken = setTimeout(() => (byId("live").textContent = sentence(view)), 600);
  clearTimeout(written);
  written = setTimeout(() => history.replaceState(null, "", addressOf(view)), 250);
  const now = { ...view };
  const pictures = P ? [showRead(shown.read, now), ...shown.runs.map((card) => showRun(card, now))] : [];
  Promise.all(pictures).then(() => {
    byId("explorer").dataset.shown = addressOf(now);
    if (!shown.complete) complete();
  });
}

// What stands below the pictures, once the first of them are on the screen.
async function complete() {
  await readToItsEnd;
  await nextFrame();
  await nextFrame();
  if (shown.complete) return;
  shown.complete = true;
  document.head.append(element("script", { textContent: byId("later").textContent })); // runs here: curves, maps and their library
  layPlots();
  show();
  byId("explorer").dataset.complete = "";
}

const nextFrame = () => new Promise(requestAnimationFrame);

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

if (P) beginDecoding(view);
byId("explorer").hidden = false;
makeChoices();
if (DATA.kinds && matchMedia("(max-width: 44rem)").matches) byId("kinds").open = false; // pictures come first where there is little room
makeLists();
makeTime();
ramp("error-ramp", DATA.ramps.error);
ramp("age-ramp", DATA.ramps.age);
ramp("map-ramp", DATA.ramps.error);
byId("copy").addEventListener("click", copyLink);
if (P && P.asked) byId("queries").addEventListener("change", () => shown.runs.forEach(outlineQueries));
addEventListener("hashchange", () => {
  const asked = readAddress(location.hash);
  change(asked);
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  layPlots();
  requestFrame();
});
addEventListener("resize", () => {
  if (innerWidth === shown.width) return; // a phone's address bar comes and goes
  layPlots();
  requestFrame();
});
lay();
show();
