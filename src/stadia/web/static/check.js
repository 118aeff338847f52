// The page of `stadia check`: choose data, see findings with cure and picture, copy the command.

import { byId, get, listItems, post, showError } from "./api.js";
import { showFinding } from "./parts.js";

function listSkipped(skipped) {
  if (!skipped.length) return [];
  const title = Object.assign(document.createElement("h2"), { textContent: "Not checked" }), list = document.createElement("ul");
  listItems(list, skipped.map((finding) => finding.measured));
  return [title, list];
}

export function startCheck() {
  async function show() {
    try {
      const { names } = await (await get("/api/data")).json(), chosen = byId("check-name").value;
      byId("check-name").replaceChildren(...names.map((name) => new Option(name, name)));
      if (names.includes(chosen)) byId("check-name").value = chosen;
      if (!names.length) byId("check-status").textContent = "There is no data in the folder of the app.";
    } catch (error) {
      showError(error);
    }
  }
  byId("check-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = event.target.querySelector("button"), place = byId("check-command");
    button.disabled = true;
    showError(null);
    byId("check-findings").replaceChildren();
    place.hidden = true;
    byId("check-status").textContent = "Checking, up to half a minute …";
    try {
      const fov = Number(byId("check-fov").value), form = { name: byId("check-name").value, ...(fov ? { fov_deg: fov } : {}) };
      const { command, findings, needs_camera } = await post("/api/check", form);
      const count = (severity) => findings.filter((finding) => finding.severity === severity).length;
      const unknown = needs_camera.length ? ` Not checked, because the field of view is unknown: ${needs_camera.join(", ")}. Enter it above, and check again.` : "";
      byId("check-status").textContent = (count("stop") || count("warn") ? `${count("stop")} to fix before training, ${count("warn")} to review.` : unknown ? "Nothing found so far." : "Nothing to fix.") + unknown;
      const skipped = findings.filter((finding) => finding.code === "N01"), found = findings.filter((finding) => finding.code !== "N01");
      byId("check-findings").replaceChildren(...found.map(showFinding), ...listSkipped(skipped));
      place.hidden = false;
      place.querySelector("code").textContent = command;
      place.querySelector("button").onclick = () => navigator.clipboard?.writeText(command);
    } catch (error) {
      byId("check-status").textContent = "";
      showError(error);
    }
    button.disabled = false;
  });
  return { show };
}
