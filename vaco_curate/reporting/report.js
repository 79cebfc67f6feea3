"use strict";
(() => {
  const data = JSON.parse(document.getElementById("report-data").textContent);
  const at = (id) => document.getElementById(id);
  const PAGE = 20;
  const FACTS = ["rows", "episodes", "effective", "mean", "median", "lowest", "coverage"];
  const { share, whole: wholeEpisodes } = data.keep;
  const state = { share, whole: wholeEpisodes, sort: "score", descending: true, page: 0, search: "", chosen: null };

  // --- numbers, as the page writes them ---------------------------------------------------------------
  const grouped = (value, digits) =>
    value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  function shown(value) {
    if (value === null || value === undefined) return "-";
    if (typeof value !== "number") return String(value);
    if (Number.isInteger(value)) return grouped(value, 0);
    return Math.abs(value) >= 10 ? grouped(value, 1) : value.toFixed(3).replace(/^-(0\.0+)$/, "$1");
  }
  const percent = (value) => (value === null ? "-" : `${Math.round(100 * value)} %`);

  // --- copying ------------------------------------------------------------------------------------------
  async function copy(text, button) {
    try {
      await navigator.clipboard.writeText(text);
    } catch {  // an old browser, or a page that may not
      const field = document.body.appendChild(document.createElement("textarea"));
      field.value = text;
      field.select();
      document.execCommand("copy");
      field.remove();
    }
    button.classList.add("copied");
    setTimeout(() => button.classList.remove("copied"), 1500);
  }

  // --- charts -------------------------------------------------------------------------------------------
  const views = {};
  const drawing = {};
  function rowsOf(columns) {
    const names = Object.keys(columns);
    return (columns[names[0]] ?? []).map((_, row) => Object.fromEntries(names.map((n) => [n, columns[n][row]])));
  }
  function wrapped(text, width) {
    const lines = [""];
    for (const word of text.split(" ")) {
      const line = `${lines[lines.length - 1]} ${word}`.trim();
      if (line.length > width) lines.push(word);
      else lines[lines.length - 1] = line;
    }
    return lines.filter((line) => line);
  }
  function draw(element) {
    const name = element.dataset.chart;
    drawing[name] ??= embed(element, name).catch((error) => {
      element.textContent = `This figure could not be drawn: ${error.message}`;
      console.error(name, error);
    });
    return drawing[name];
  }
  async function embed(element, name) {
    const { spec, tables } = data.charts[name];
    spec.datasets = Object.fromEntries(tables.map((key) => [key, rowsOf(data.tables[key])]));
    spec.title = wrapped(spec.title, Math.floor((element.clientWidth - 60) / 8));
    const actions = { export: true, source: false, compiled: false, editor: false };
    const options = { mode: "vega-lite", renderer: "svg", actions, downloadFileName: name };
    views[name] = (await vegaEmbed(element, spec, options)).view;
    if (spec.params?.some((param) => param.name === "share")) {
      views[name].follows = true;
      await follow(views[name]);
    }
    if (name === "course") drawCourse();
  }
  const follow = (view) => view.signal("share", state.share).signal("whole", state.whole).runAsync();
  async function drawAll() {
    for (const element of document.querySelectorAll("[data-chart]")) {
      await draw(element);
      await new Promise((resolve) => setTimeout(resolve));  // the page stays alive meanwhile
    }
    document.documentElement.dataset.drawn = "all";
  }
  window.addEventListener("beforeprint", () => document.querySelectorAll("[data-chart]").forEach(draw));

  // --- how much to keep ---------------------------------------------------------------------------------
  function showKept() {
    const kept = data.keep[state.whole ? "episodes" : "rows"][state.share - 1];
    const all = data.keep.rows[99];
    FACTS.forEach((fact, number) => {
      const text = { coverage: percent, effective: (value) => grouped(value, 1) }[fact] ?? shown;
      at(`kept-${fact}`).textContent = text(kept[number]);
      at(`all-${fact}`).textContent = all[number] === null ? "not known" : `all rows: ${text(all[number])}`;
    });
    at("share-shown").textContent = state.share;
    at("unit").textContent = state.whole ? "episodes" : "rows";
    const spoken = `${shown(kept[0])} rows, mean return ${shown(kept[3])}`;
    at("share").setAttribute("aria-valuetext", `${state.share} percent: ${spoken}`);
    at("command").textContent = `vaco-curate filter ${data.keep.run} --top ${state.share}%${state.whole ? "ep" : ""}`;
    Object.values(views).filter((view) => view.follows).forEach(follow);
    showTable();
  }

  // --- the table of episodes ----------------------------------------------------------------------------
  const { labels, columns } = data.episodes;
  const names = Object.keys(labels);
  const rank = { all: 2, part: 1, none: 0 };
  function keptOf(row) {
    if (state.whole) return columns.whole[row] <= state.share ? "all" : "none";
    return columns.last[row] <= state.share ? "all" : columns.first[row] <= state.share ? "part" : "none";
  }
  const isText = (name) => ["group", "success", "kept"].includes(name);
  const valueOf = (name, row) => (name === "kept" ? rank[keptOf(row)] : columns[name][row]);
  function found() {
    const text = state.search.trim().toLowerCase();
    const words = { all: ["kept", "all"], part: ["kept", "part"], none: ["dropped", "none"] };
    const outcomes = { yes: ["success", "yes"], no: ["failure", "no"] };
    const matches = (row) =>
      String(columns.episode[row]).startsWith(text) ||
      (columns.group?.[row].toLowerCase().includes(text) ?? false) ||
      [...words[keptOf(row)], ...(outcomes[columns.success?.[row]] ?? [])].includes(text);
    const rows = columns.episode.map((_, row) => row).filter((row) => !text || matches(row));
    const sign = state.descending ? -1 : 1;
    const compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
    return rows.sort((a, b) => sign * compare(valueOf(state.sort, a), valueOf(state.sort, b)) || a - b);
  }
  function element(tag, text, properties) {
    return Object.assign(document.createElement(tag), { textContent: text }, properties);
  }
  function makeHead() {
    const head = at("table").tHead.rows[0];
    for (const name of names) {
      const cell = element("th", "", { scope: "col", className: isText(name) ? "text" : "" });
      const button = cell.appendChild(element("button", labels[name], { type: "button" }));
      button.addEventListener("click", () => {
        state.descending = state.sort === name ? !state.descending : !["episode", "order", "group"].includes(name);
        Object.assign(state, { sort: name, page: 0 });
        showTable();
      });
      head.append(cell);
    }
    head.append(element("th", "course", { scope: "col" }));
  }
  const { courses } = data;
  function rowOf(row) {
    const line = element("tr", "", { className: columns.episode[row] === state.chosen ? "chosen" : "" });
    for (const name of names) {
      const value = name === "kept" ? keptOf(row) : columns[name][row];
      const cell = element(name === "episode" ? "th" : "td", "", { className: isText(name) ? "text" : "" });
      if (name === "episode") {
        cell.scope = "row";
        const title = `Copy the id ${value}`;
        const button = element("button", value, { type: "button", className: "id", title });
        button.addEventListener("click", () => copy(String(value), button));
        cell.append(button);
      } else {
        cell.textContent = isText(name) ? value : shown(value);
        if (value === "none") cell.classList.add("none");
        if (name === "group") cell.title = value;
      }
      line.append(cell);
    }
    if (!courses.episode.includes(columns.episode[row])) {
      line.append(element("td", ""));
      return line;
    }
    const button = element("button", "draw", { type: "button", ariaLabel: `Draw the scores along episode ${columns.episode[row]}` });
    button.addEventListener("click", () => choose(columns.episode[row]));
    line.append(element("td", ""));
    line.lastChild.append(button);
    return line;
  }
  function showTable() {
    const rows = found();
    const pages = Math.max(1, Math.ceil(rows.length / PAGE));
    state.page = Math.min(state.page, pages - 1);
    names.forEach((name, number) => {
      const cell = at("table").tHead.rows[0].cells[number];
      if (name === state.sort) cell.setAttribute("aria-sort", state.descending ? "descending" : "ascending");
      else cell.removeAttribute("aria-sort");
    });
    const first = PAGE * state.page, shown = rows.slice(first, first + PAGE);
    at("table").tBodies[0].replaceChildren(...shown.map(rowOf));
    at("copy-ids").disabled = rows.length === 0;
    at("listed").textContent = `${grouped(rows.length, 0)} found`;
    at("page").textContent = shown.length
      ? `${grouped(first + 1, 0)} to ${grouped(first + shown.length, 0)} of ${grouped(rows.length, 0)}`
      : "none";
    at("previous").disabled = state.page === 0;
    at("following").disabled = state.page === pages - 1;
  }

  // --- scores along an episode --------------------------------------------------------------------------
  const bytes = Uint8Array.from(atob(courses.scores), (letter) => letter.charCodeAt(0));
  const whole = new DataView(bytes.buffer);
  const offsets = courses.points.reduce((sums, points) => [...sums, sums[sums.length - 1] + points], [0]);
  function course(number, which) {
    const points = courses.points[number];
    return Array.from({ length: points }, (_, point) => ({
      which,
      episode: courses.episode[number],
      step: points > 1 ? Math.round((point * courses.last[number]) / (points - 1)) : 0,
      score: courses.low + ((courses.high - courses.low) * whole.getUint16(2 * (offsets[number] + point), true)) / 65535,
    }));
  }
  function drawCourse() {
    const view = views.course;
    const number = courses.episode.indexOf(state.chosen);
    if (!view || number < 0) return;
    const rows = [...course(0, "best"), ...course(number, "chosen"), ...course(courses.episode.length - 1, "worst")];
    view.data(data.charts.course.tables[0], rows).runAsync();
  }
  function choose(episode) {
    const known = courses.episode.includes(episode);
    at("course-note").textContent = known ? "" : `The page holds no scores along episode ${episode}, only along those listed here.`;
    at("figure-course").scrollIntoView({ block: "nearest" });
    if (!known) return;
    state.chosen = episode;
    at("chosen").value = episode;
    drawCourse();
    showTable();
  }

  // --- start --------------------------------------------------------------------------------------------
  makeHead();
  courses.episode.forEach((episode, number) => {
    at("chosen").append(element("option", `${episode}${number === 0 ? " (best)" : number === courses.episode.length - 1 ? " (worst)" : ""}`, { value: episode }));
  });
  state.chosen = courses.chosen;
  at("chosen").value = state.chosen;
  at("chosen").addEventListener("change", () => choose(Number(at("chosen").value)));
  at("share").addEventListener("input", () => { state.share = Number(at("share").value); showKept(); });
  for (const radio of document.getElementsByName("level")) {
    radio.addEventListener("change", () => { state.whole = radio.value === "episodes"; showKept(); });
  }
  at("search").addEventListener("input", () => { Object.assign(state, { search: at("search").value, page: 0 }); showTable(); });
  at("previous").addEventListener("click", () => { state.page -= 1; showTable(); });
  at("following").addEventListener("click", () => { state.page += 1; showTable(); });
  at("copy-ids").addEventListener("click", (event) => copy(found().map((row) => columns.episode[row]).join(","), event.target));
  for (const button of document.querySelectorAll("[data-copy]")) {
    button.addEventListener("click", () => copy(at(button.dataset.copy).textContent, button));
  }
  showKept();
  drawAll();
})();
