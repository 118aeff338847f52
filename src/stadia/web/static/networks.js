// The list of networks: output, size, licence, and whether they are here.

import { byId, get, make, showError } from "./api.js";

export function startNetworks() {
  async function show() {
    try {
      const { networks } = await (await get("/api/networks")).json();
      byId("networks-rows").replaceChildren(...networks.map((network) => {
        const row = document.createElement("tr");
        row.append(make("th", { scope: "row", textContent: network.name }));
        row.append(...[network.output, network.size, network.licence, network.state].map((textContent) => make("td", { textContent })));
        return row;
      }));
    } catch (error) {
      showError(error);
    }
  }
  return { show };
}
