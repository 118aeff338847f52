// Two pictures of one frame, divided by a slider; the frame and both pictures are chosen.
const [frame, left, right, split] = ["frame", "left", "right", "split"].map((id) => document.getElementById(id));
const under = document.getElementById("under");
const over = document.getElementById("over");
const sheets = [...document.querySelectorAll("[data-sheet]")].map((sheet) => [...sheet.querySelectorAll("img")]);
const show = () => {
  const images = sheets[Number(frame.value)];
  under.src = images[Number(right.value)].src;
  over.src = images[Number(left.value)].src;
  over.style.clipPath = `inset(0 ${100 - Number(split.value)}% 0 0)`;
};
for (const control of [frame, left, right, split]) control.addEventListener("input", show);
show();
