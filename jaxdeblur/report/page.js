// Sliders: two images of a strip over one another, copied from the strip, so that each is in the page once.
for (const slider of document.querySelectorAll(".slider")) {
  const images = slider.closest("figure").querySelectorAll(".whole img");
  const range = slider.querySelector("input");
  const show = () => {
    slider.querySelectorAll("select").forEach((select, i) => {
      const image = slider.querySelectorAll(".frame img")[i], from = images[select.value];
      image.src = from.src;
      image.alt = from.alt;
    });
  };
  const move = () => {
    const share = range.value / range.max;
    // The middle of the handle moves from half its width to half its width before the end.
    slider.querySelector(".frame").style.setProperty("--at", `calc(${share} * (100% - var(--thumb)) + var(--thumb) / 2)`);
    range.setAttribute("aria-valuetext", `${range.value}% of the width shows the left image`);
  };
  slider.addEventListener("change", show);
  range.addEventListener("input", move);
  show();
  move();
  slider.hidden = false;
}
