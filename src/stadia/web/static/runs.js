// The page of runs: the list, one run as it trains, two beside each other.

import { byId, get, listItems, make, post, readNumber, showError } from "./api.js";
import { drawCharts, showFinding, showSheet, showTile } from "./parts.js";

const REFRESH_MS = 5000, SHOWN = 200;

export function startRuns() {
  const state = { rows: [], chosen: new Set(), shown: SHOWN, timer: null, name: "" };

  const parts = () => location.hash.slice(1).split("/").map(decodeURIComponent);

  async function refresh() {
    clearTimeout(state.timer);
    const [page, first, second] = parts();
    if (page !== "runs") return;
    for (const [id, isShown] of [["runs-list", !first], ["run-one", first && !second], ["run-pair", first && second]]) byId(id).hidden = !isShown;
    try {
      if (!first) await showList();
      else if (!second) await showRun(first);
      else await showPair(first, second);
    } catch (error) {
      showError(error);
    }
    if (!second) state.timer = setTimeout(refresh, REFRESH_MS);
  }

  // -- the list

  async function showList() {
    const { runs } = await (await get("/api/runs")).json(), isNew = JSON.stringify(runs) !== JSON.stringify(state.rows);
    state.rows = runs;
    if (isNew || !runs.length) drawRows(); // rows that stay keep the focus
    if (byId("start").open && byId("start-form").querySelector("button").disabled) showStartState(await (await get("/api/trainings")).json());
  }

  async function showStart() {
    const about = await (await get("/api/trainings")).json(), chosen = byId("start-data").value, preset = byId("start-preset").value;
    byId("start-data").replaceChildren(...about.data.map((name) => new Option(name, name)));
    byId("start-preset").replaceChildren(...about.presets.map(([name]) => new Option(name, name)));
    if (about.data.includes(chosen)) byId("start-data").value = chosen;
    if (preset) byId("start-preset").value = preset;
    const describe = () => { byId("start-about").textContent = Object.fromEntries(about.presets)[byId("start-preset").value] ?? ""; };
    byId("start-preset").onchange = describe;
    describe();
    showStartState(about);
  }

  function showStartState({ state: name, error }) {
    byId("start-state").textContent = { none: "", training: "It runs. It appears below after the checks of the data.", ended: "The last one has ended.", failed: error }[name] ?? "";
    byId("start-form").querySelector("button").disabled = name === "training";
  }

  byId("start").addEventListener("toggle", () => { if (byId("start").open) showStart().catch(showError); });
  byId("start-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    showError(null);
    try {
      showStartState(await post("/api/trainings", { name: byId("start-data").value, preset: byId("start-preset").value, minutes: readNumber("start-minutes"), fov_deg: readNumber("start-fov") }));
    } catch (error) {
      showError(error);
    }
  });

  function drawRows() {
    const filter = byId("runs-filter").value.toLowerCase();
    const found = state.rows.filter((row) => `${row.name} ${row.recipe} ${row.status} ${row.verdict}`.toLowerCase().includes(filter));
    byId("runs-rows").replaceChildren(...found.slice(0, state.shown).map(drawRow));
    byId("runs-more").hidden = found.length <= state.shown;
    byId("runs-count").textContent = state.rows.length ? `${found.length} of ${state.rows.length} runs` : "There is no run yet. Start a training below.";
    byId("runs-compare").disabled = state.chosen.size !== 2;
  }

  function drawRow(row) {
    const made = document.createElement("tr"), cell = (...content) => { const td = document.createElement("td"); td.append(...content); made.append(td); };
    const box = Object.assign(document.createElement("input"), { type: "checkbox", checked: state.chosen.has(row.name), ariaLabel: `Compare ${row.name}` });
    box.addEventListener("change", () => { box.checked ? state.chosen.add(row.name) : state.chosen.delete(row.name); byId("runs-compare").disabled = state.chosen.size !== 2; });
    const badge = Object.assign(document.createElement("span"), { className: `badge ${row.tone}`, textContent: row.is_training ? "training" : row.status });
    const verdict = row.verdict ? Object.assign(document.createElement("span"), { className: `badge ${row.verdict.replace(" ", "-")}`, textContent: row.verdict }) : "";
    cell(box);
    cell(row.image ? make("img", { src: `/api/runs/${encodeURIComponent(row.name)}/small.jpg`, alt: "", className: "small-sheet", loading: "lazy" }) : "");
    cell(Object.assign(document.createElement("a"), { href: `#runs/${encodeURIComponent(row.name)}`, textContent: row.name }));
    cell(badge);
    cell(verdict);
    cell(row.recipe);
    cell(row.started.slice(0, 16).replace("T", " "));
    return made;
  }

  // -- one run

  async function showRun(name) {
    const run = await (await get(`/api/runs/${encodeURIComponent(name)}`)).json(), base = `/api/runs/${encodeURIComponent(name)}`;
    byId("run-name").textContent = run.name;
    byId("run-status").textContent = run.is_training ? "training" : run.status;
    byId("run-status").className = `badge ${run.tone}`;
    byId("run-verdict").className = `card verdict ${run.verdict.tone}`;
    byId("run-word").textContent = run.verdict.word;
    byId("run-advice").textContent = run.verdict.advice;
    byId("run-about").textContent = [run.recipe, run.steps === null ? "no step yet" : `${run.steps} steps`, run.error].filter(Boolean).join(", ");
    byId("run-stop").hidden = !run.is_training;
    byId("run-resume").hidden = run.is_training || run.status === "finished";
    byId("run-delete").hidden = run.is_training;
    byId("run-report").href = byId("run-report-file").href = `${base}/report`;
    if (state.name !== name) byId("run-done").textContent = "";
    listItems(byId("run-quality"), run.quality.map(([text]) => text));
    byId("run-tiles").replaceChildren(...run.tiles.map(showTile));
    drawCharts(byId("run-curves"), run.charts);
    byId("run-findings").replaceChildren(...(run.findings.length ? run.findings.map(showFinding) : [Object.assign(document.createElement("p"), { textContent: "None that warns." })]));
    const sources = run.images.map(([step, file]) => [step, `${base}/images/${encodeURIComponent(file)}`]);
    if (byId("run-images").dataset.last !== JSON.stringify(sources)) {
      byId("run-images").dataset.last = JSON.stringify(sources);
      byId("run-images").replaceChildren(...sources.map(([step, src]) => showSheet(src, `Images of step ${step}`)));
    }
    state.name = name;
  }

  async function act(action) {
    byId("run-done").textContent = "";
    showError(null);
    try {
      byId("run-done").textContent = (await post(`/api/runs/${encodeURIComponent(state.name)}/${action}`)).done;
      setTimeout(refresh, 1500);
    } catch (error) {
      showError(error);
    }
  }
  byId("run-stop").addEventListener("click", () => act("stop"));
  byId("run-delete").addEventListener("click", async () => {
    if (!confirm(`Delete ${state.name} with its weights, from this computer?`)) return;
    await act("delete");
    location.hash = "runs";
  });
  byId("run-resume").addEventListener("click", () => act("resume"));

  // -- two runs

  async function showPair(first, second) {
    const pair = await (await get(`/api/compare?first=${encodeURIComponent(first)}&second=${encodeURIComponent(second)}`)).json();
    byId("pair-name").textContent = `${first} and ${second}`;
    byId("pair-runs").replaceChildren(...pair.runs.map(drawVerdict));
    byId("pair-better").textContent = pair.better;
    byId("pair-scores").replaceChildren(...(pair.scores.length ? [["Validation", "first", "second", null], ...pair.scores].map(drawScores) : []));
    listItems(byId("pair-cautions"), pair.cautions);
    byId("pair-text").textContent = pair.text;
    drawCharts(byId("pair-curves"), pair.charts);
  }

  function drawVerdict({ name, verdict }) {
    const card = Object.assign(document.createElement("div"), { className: `card verdict ${verdict.tone}` });
    const link = Object.assign(document.createElement("a"), { href: `#runs/${encodeURIComponent(name)}`, textContent: name });
    const line = (className, ...content) => { const place = Object.assign(document.createElement("p"), { className }); place.append(...content); card.append(place); };
    line("small", link);
    line("word", verdict.word);
    line("", verdict.advice);
    return card;
  }

  function drawScores([label, one, other, better], row) {
    const made = document.createElement("tr");
    [label, one, other].forEach((text, column) => {
      const cell = document.createElement(row && column ? "td" : "th");
      if (cell.tagName === "TH") cell.scope = row ? "row" : "col";
      cell.append(column && better === column - 1 ? Object.assign(document.createElement("strong"), { textContent: `${text}, better` }) : text);
      made.append(cell);
    });
    return made;
  }

  byId("runs-compare").addEventListener("click", () => {
    const [first, second] = [...state.chosen];
    location.hash = `runs/${encodeURIComponent(first)}/${encodeURIComponent(second)}`;
  });
  byId("runs-filter").addEventListener("input", drawRows);
  byId("runs-more").addEventListener("click", () => { state.shown += SHOWN; drawRows(); });
  return { show: refresh };
}
