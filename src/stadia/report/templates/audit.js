// The table of all items: rows are left out by a text and by grades; the count states how many are shown.
const filters = document.getElementById("filters"), rows = [...document.querySelectorAll("#items tbody tr")];
const text = document.getElementById("filter"), count = document.getElementById("count"), boxes = [...filters.querySelectorAll("[type=checkbox]")];
function show() {
  const wanted = text.value.trim().toLowerCase(), grades = new Set(boxes.filter((box) => box.checked).map((box) => box.value));
  let shown = 0;
  for (const row of rows) {
    row.hidden = !grades.has(row.dataset.grade) || !row.textContent.toLowerCase().includes(wanted);
    shown += !row.hidden;
  }
  count.textContent = `${shown} of ${rows.length} items`;
}
for (const input of [text, ...boxes]) input.addEventListener("input", show);
filters.hidden = false;
show();
