for (const sheet of document.querySelectorAll(".sheet")) {
  sheet.addEventListener("click", () => sheet.classList.toggle("zoomed"));
}
for (const sheets of document.querySelectorAll(".sheets")) {
  const figures = [...sheets.querySelectorAll("figure")];
  const slider = sheets.querySelector("input");
  const show = () => figures.forEach((figure, i) => figure.classList.toggle("shown", i === Number(slider.value)));
  if (!slider) continue;
  slider.addEventListener("input", show);
  sheets.classList.add("scripted");
  show();
}
