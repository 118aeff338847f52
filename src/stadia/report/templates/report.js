for (const sheets of document.querySelectorAll(".sheets")) {
  const figures = [...sheets.querySelectorAll("figure")];
  const slider = sheets.querySelector("input");
  const show = () => figures.forEach((figure, i) => figure.classList.toggle("shown", i === Number(slider.value)));
  for (const figure of figures) figure.firstElementChild.addEventListener("click", (event) => event.currentTarget.classList.toggle("zoomed"));
  if (!slider) continue;
  slider.addEventListener("input", show);
  sheets.classList.add("scripted");
  show();
}
