"use strict";
// Draws the figures in the colours of the theme, and shows the plan of the point that is chosen.
// Plotly takes a while to read, so it waits until the page stands: the plan, the theme and a sketch of the
// front work without it.
// Names come from the study, so elements get text, never HTML.
(() => {
  const root = document.documentElement;
  const byId = (id) => document.getElementById(id);
  const data = JSON.parse(byId("data").textContent);
  const trials = new Map(data.trials.map((trial) => [trial.trial, trial]));
  const drawn = new Set();
  let selected = null;

  const probe = root.appendChild(document.createElement("span"));
  probe.hidden = true;

  function colour(role) {
    probe.style.color = `var(${role})`;
    return getComputedStyle(probe).color;
  }

  // A copy in which colours stand for their roles. Roles are read below colour keys only: anything
  // else may be a name.
  function painted(value, key = "") {
    if (typeof value === "string") return /color/.test(key) && value.startsWith("--") ? colour(value) : value;
    if (Array.isArray(value)) {
      const holdsMore = typeof value[0] === "object" && !Array.isArray(value[0]);
      return holdsMore || /color/.test(key) ? value.map((one) => painted(one, key)) : value;
    }
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, painted(one, name)]));
  }

  const touch = matchMedia("(pointer: coarse)").matches;
  const options = { responsive: true, displaylogo: false, displayModeBar: touch ? false : "hover" };

  function draw(name) {
    const figure = data.figures[name];
    const traces = figure.data.map((trace) => painted(trace));
    // On a touch screen a finger that moves scrolls the page.
    const layout = { ...painted(figure.layout), dragmode: touch ? false : "zoom" };
    if (name === "front") layout.uirevision = "kept";
    if (!drawn.has(name)) byId(`figure-${name}`).replaceChildren();
    Plotly.react(byId(`figure-${name}`), traces, layout, options);
    drawn.add(name);
  }

  const later = window.requestIdleCallback || ((work) => setTimeout(work, 20));

  function drawOthers(names) {
    if (names.length === 0) {
      root.dataset.drawn = "all";
      return;
    }
    later(() => {
      if (!drawn.has(names[0])) draw(names[0]);
      drawOthers(names.slice(1));
    });
  }

  function element(name, attributes, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  }

  function button(label, action, off = false) {
    const made = element("button", { type: "button" }, label);
    made.disabled = off;
    made.addEventListener("click", action);
    return made;
  }

  const count = (value) => value.toLocaleString("en");
  const share = (value, digits = 1) => `${(100 * value).toFixed(digits)} %`;
  const short = (value) => (value === null ? "not finite" : Number(value.toPrecision(3)).toString());

  function facts(trial) {
    const dense = data.dense;
    const metric = data.metric;
    const value = (number) => (metric.share ? share(number, 2) : Number(number.toPrecision(4)).toString());
    const change = (metric.share ? 100 : 1) * (trial.accuracy - dense.accuracy);
    const points = metric.share ? `${change.toFixed(2)} points` : Number(change.toPrecision(3)).toString();
    const found = [
      [metric.name, `${value(trial.accuracy)} (${change < 0 ? "" : "+"}${points})`],
      ["before reconstruction", trial.before === null ? "not measured" : value(trial.before)],
      ["MACs", `${count(trial.macs)} (${share(trial.macs / dense.macs)} of dense)`],
      ["parameters", `${count(trial.params)} (${share(trial.params / dense.params)})`],
      ["bytes", `${count(trial.bytes)} (${share(trial.bytes / dense.bytes)})`],
      ["criterion", trial.criterion],
      ["batch removal", String(trial.batch)],
      ["output error", short(trial.error)],
    ];
    if (trial.latency !== null) {
      const ms = (value) => `${value.toFixed(2)} ms`;
      found.push(["latency", `${ms(trial.latency)} (spread ${ms(trial.latency_spread)})`]);
      found.push(["latency predicted", ms(trial.latency_predicted)]);
    }
    const proxies = Object.entries(trial.proxies).map(([name, v]) => [name.replaceAll("_", " "), short(v)]);
    return [...found, ...proxies].flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]);
  }

  function widths(trial) {
    const rows = data.groups.map(([name, width], place) => {
      const rate = 1 - trial.widths[place] / width;
      const bar = element("span", { class: "rate", "aria-hidden": "true" }, element("i", {}));
      bar.firstChild.style.width = `${100 * rate}%`;
      return element(
        "tr",
        {},
        element("th", { scope: "row" }, name),
        element("td", {}, `${trial.widths[place]} / ${width}`),
        element("td", {}, `${Math.round(100 * rate)} %`, bar),
      );
    });
    const head = ["group", "kept", "pruned"].map((name) => element("th", { scope: "col" }, name));
    const caption = element("caption", {}, "Widths, in network order");
    const body = element("tbody", {}, ...rows);
    return element("table", {}, caption, element("thead", {}, element("tr", {}, ...head)), body);
  }

  function command(trial) {
    const text = `autoprune build ${data.study_file} --trial ${trial.trial} --out trial-${trial.trial}/`;
    const code = element("code", {}, text);
    const copy = button("Copy", async () => {
      try {
        await navigator.clipboard.writeText(text);
        copy.textContent = "Copied";
      } catch {
        // A page from a file may not write to the clipboard: select it for the user instead.
        getSelection().selectAllChildren(code);
        copy.textContent = "Selected";
      }
    });
    return [code, element("div", { class: "steps" }, copy)];
  }

  function steps(trial) {
    const place = data.front.indexOf(trial.trial);
    if (place < 0) return element("p", { class: "quiet" }, "Not on the front: a cheaper trial is as accurate.");
    const go = (to, label) => () => {
      select(data.front[to]);
      const again = [...byId("plan").querySelectorAll(".steps button")].find((b) => b.textContent === label);
      (again.disabled ? byId("plan").querySelector("h3") : again).focus();
    };
    return element(
      "div",
      { class: "steps" },
      button("Cheaper", go(place - 1, "Cheaper"), place === 0),
      button("More accurate", go(place + 1, "More accurate"), place === data.front.length - 1),
    );
  }

  function select(number) {
    const trial = trials.get(number);
    if (!trial) return;
    selected = number;
    const title = element("h3", { tabindex: "-1" }, `Trial ${number}`);
    const list = element("dl", {}, ...facts(trial));
    byId("plan").replaceChildren(title, steps(trial), list, ...command(trial), widths(trial));
    byId("plan").scrollTop = 0;
    for (const one of document.querySelectorAll("button[data-trial]")) {
      one.setAttribute("aria-current", String(Number(one.dataset.trial) === number));
    }
    const mark = data.figures.front.data.at(-1);
    mark.x = [trial.share];
    mark.y = [trial.accuracy];
    if (drawn.has("front")) Plotly.restyle("figure-front", { x: [mark.x], y: [mark.y] }, [3]);
    else sketch(byId("figure-front"), data.figures.front, colour);
  }

  const prefersDark = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme || (prefersDark.matches ? "dark" : "light")) === "dark";

  function repaint() {
    byId("theme").textContent = isDark() ? "Light theme" : "Dark theme";
    if (!drawn.has("front")) sketch(byId("figure-front"), data.figures.front, colour);
    drawn.forEach(draw);
  }

  byId("theme").addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    repaint();
  });
  prefersDark.addEventListener("change", repaint);

  if (data.selected !== null) select(data.selected);
  else byId("plan").append("No trial has finished yet.");
  repaint();
  document.addEventListener("click", (event) => {
    const pressed = event.target.closest("[data-trial]");
    if (!pressed) return;
    select(Number(pressed.dataset.trial));
    if (pressed.matches("button")) byId("plan").querySelector("h3").focus();
    else byId("plan").scrollIntoView({ block: "nearest" });
  });

  function drawAll() {
    // The text becomes a script only now; the policy of the page knows its digest.
    document.head.append(element("script", {}, byId("plotly").textContent));
    const others = Object.keys(data.figures).filter((name) => name !== "front");
    draw("front");
    byId("figure-front").on("plotly_click", (event) => {
      const about = event.points[0].customdata;
      if (!about) return;
      select(about[0]);
      byId("plan").scrollIntoView({ block: "nearest" });
    });
    performance.mark("drawn-front");
    addEventListener("beforeprint", () => others.filter((name) => !drawn.has(name)).forEach(draw));
    drawOthers(others);
  }

  performance.mark("interactive");
  // After a picture of what stands has been on the screen.
  requestAnimationFrame(() => later(drawAll));
})();
