// Steps through the pictures of cases; without it they stand below one another.
for (const box of document.querySelectorAll(".cases")) {
  const figures = [...box.querySelectorAll("figure")];
  if (figures.length < 2) continue;
  const position = box.querySelector("output");
  let current = 0;
  const show = (index) => {
    current = (index + figures.length) % figures.length;
    figures.forEach((figure, i) => figure.classList.toggle("shown", i === current));
    position.textContent = `${current + 1} of ${figures.length}`;
  };
  box.querySelector(".previous").addEventListener("click", () => show(current - 1));
  box.querySelector(".next").addEventListener("click", () => show(current + 1));
  const keys = { ArrowLeft: () => show(current - 1), ArrowRight: () => show(current + 1), Home: () => show(0), End: () => show(figures.length - 1) };
  document.addEventListener("keydown", (event) => {
    const inside = box.contains(document.activeElement);
    const arrow = event.key.startsWith("Arrow");
    // Arrows work wherever nothing else wants them; Home and End only here, as elsewhere they scroll the page.
    if (event.altKey || event.ctrlKey || event.metaKey || !(event.key in keys)) return;
    if (!inside && !(arrow && document.activeElement === document.body)) return;
    event.preventDefault();
    keys[event.key]();
  });
  box.classList.add("live");
  show(0);
}

// What is folded on the screen is open on paper, but for long files.
const folded = [...document.querySelectorAll("details:not(.screen)")];
addEventListener("beforeprint", () => folded.forEach((part) => { part.dataset.was = part.open; part.open = true; }));
addEventListener("afterprint", () => folded.forEach((part) => { part.open = part.dataset.was === "true"; }));

// The list of contents marks the section that is being read.
const links = new Map([...document.querySelectorAll("nav.contents a")].map((link) => [link.hash.slice(1), link]));
const watcher = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (!entry.isIntersecting) continue;
    links.forEach((link) => link.removeAttribute("aria-current"));
    links.get(entry.target.id)?.setAttribute("aria-current", "true");
  }
}, { rootMargin: "0px 0px -70% 0px" });
document.querySelectorAll("main section[id]").forEach((section) => watcher.observe(section));
