// What one chooses: image, models, training, order and remedy.

function swatchOf(run) {
  const svg = svgOf("svg", { viewBox: "0 0 22 8", class: "swatch", "aria-hidden": "true" });
  const dash = run.dash.map((d) => 2 * d).join(" ");
  svg.append(svgOf("line", { x1: 1, x2: 21, y1: 4, y2: 4, stroke: run.colour, "stroke-width": 3, "stroke-dasharray": dash }));
  return svg;
}

function nameOf(run) {
  const name = element("b", { textContent: run.name });
  name.style.textDecorationColor = run.colour;
  return name;
}

const OWN_COLOURS = new Map(DATA.runs.map((run) => [run.name, run.colour]));

// In figures a colour comes again, with other dashes, after all have been used; models that are shown side by side never share one.
function colourRuns(runs) {
  const own = (run) => OWN_COLOURS.get(run.name);
  const free = [...new Set(OWN_COLOURS.values())].filter((colour) => !runs.some((run) => own(run) === colour));
  for (const run of RUNS.values()) run.colour = own(run);
  runs.forEach((run, k) => {
    if (runs.slice(0, k).some((other) => own(other) === own(run))) run.colour = free.shift();
  });
  for (const chip of byId("runs").querySelectorAll(".chip")) {
    chip.querySelector(".swatch").replaceWith(swatchOf(RUNS.get(chip.querySelector("input").value)));
  }
}

function makeChoices() {
  for (let i = 0; i < IMAGES; i++) {
    const input = element("input", { type: "radio", name: "image", value: i });
    const picture = element("img", { src: `data:image/webp;base64,${P.images[i].webp}`, alt: `Image ${i + 1}` });
    byId("images").querySelector(".thumbs").append(element("label", { className: "thumb" }, input, picture));
    input.addEventListener("change", () => change({ image: i }));
  }
  const kind = (run) => (SEVERAL_KINDS ? `${run.kind}: ` : "");
  for (const run of DATA.runs) {
    const input = element("input", { type: "checkbox", name: "run", value: run.name });
    const words = element("span", {}, element("b", { textContent: run.name }), " ", element("small", { textContent: `${kind(run)}${run.words}` }));
    byId("runs").querySelector(".chips").append(element("label", { className: "chip", title: kind(run) + run.words }, input, swatchOf(run), words));
    input.addEventListener("change", () => {
      const others = view.runs.filter((name) => name !== run.name);
      const order = [...RUNS.keys()];
      const asked = input.checked ? [...others, run.name].sort((a, b) => order.indexOf(a) - order.indexOf(b)) : others;
      change({ runs: asked.length ? asked.slice(0, DATA.most) : view.runs });
    });
  }
}

// A list to choose from, where there is more than one thing: [value, words] of each, or [name of a group, its options].
function makeList(id, options, act) {
  const list = byId(id);
  if (!list) return;
  const option = ([value, words]) => element("option", { value, textContent: words });
  const group = ([label, members]) => Object.assign(element("optgroup", {}, ...members.map(option)), { label });
  list.append(...options.map((one) => (Array.isArray(one[1]) ? group(one) : option(one))));
  list.addEventListener("change", () => act(list.value));
}

function makeLists() {
  const pictured = (seed) => (P && P.seed === seed ? " (of the pictures)" : "");
  const seeds = DATA.seeds.map((seed) => [seed, `seed ${seed}${pictured(seed)}`]);
  makeList("seed", [["", "mean of all"], ...seeds], (value) => change({ seed: value === "" ? null : Number(value) }));
  makeList("order", DATA.orders.map((order) => [order, order]), (order) => change({ order }));
  const entries = (control) => [...REMEDIES.values()].filter((entry) => entry.control === control).map(({ name }) => [name, name]);
  const groups = [["Remedies", entries(false)], ["Controls", entries(true)]].filter(([, members]) => members.length);
  makeList("remedy", [["", "none, as trained"], ...groups], (value) => change(value ? withTried(value) : { remedy: null }));
}

// The remedy, and models that it was tried on where none of those shown is one.
function withTried(remedy) {
  const tried = [...RUNS.keys()].filter((name) => DATA.remedies.runs[name] && DATA.remedies.runs[name][remedy]);
  if (!tried.length || view.runs.some((name) => tried.includes(name))) return { remedy };
  return { remedy, runs: [...view.runs.slice(0, DATA.most - 1), tried[0]] };
}

function markChoices() {
  for (const input of document.querySelectorAll("#images input")) input.checked = Number(input.value) === view.image;
  for (const input of document.querySelectorAll("#runs input")) {
    input.checked = view.runs.includes(input.value);
    input.disabled = !input.checked && view.runs.length === DATA.most;
  }
  for (const name of ["seed", "order", "remedy"]) if (byId(name)) byId(name).value = view[name] ?? "";
}
