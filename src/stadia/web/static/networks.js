// The list of networks: use, size, licence, and a button with a bar for those that must be downloaded.

import { byId, get, make, post, showError } from "./api.js";

const PAUSE_MS = 1000;

function describeState(network, reload) {
  const cell = make("td");
  if (network.progress !== undefined) {
    cell.append(make("progress", { value: network.progress, ariaLabel: `Download of ${network.name}` }));
  } else if (network.can_download) {
    const button = make("button", { type: "button", className: "own", textContent: "Download", ariaLabel: `Download ${network.name}` });
    button.addEventListener("click", () => {
      button.disabled = true;
      post(`/api/networks/${network.name}/download`).then(reload, showError);
    });
    cell.append(button);
  } else cell.textContent = network.is_here ? "ready" : "needs a package";
  return cell;
}

// A network that was downloaded can be chosen in the settings of a picture.
function offer(network) {
  const select = byId("network");
  if (network.key === null || [...select.options].some((option) => option.value === String(network.key))) return;
  select.append(make("option", { value: network.key, textContent: network.name }));
}

export function startNetworks() {
  let timer = 0;
  async function show() {
    clearTimeout(timer);
    try {
      const { networks } = await (await get("/api/networks")).json();
      byId("networks-rows").replaceChildren(...networks.map((network) => {
        const row = document.createElement("tr");
        row.append(make("th", { scope: "row", textContent: network.name }));
        row.append(...[network.use, network.size, network.licence].map((textContent) => make("td", { textContent })), describeState(network, show));
        return row;
      }));
      networks.forEach(offer);
      const failed = networks.find((network) => network.error);
      if (failed) showError(new Error(failed.error));
      if (networks.some((network) => network.progress !== undefined)) timer = setTimeout(show, PAUSE_MS);
    } catch (error) {
      showError(error);
    }
  }
  return { show };
}
