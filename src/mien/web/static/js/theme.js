// The switch between light, dark and the system's colour scheme.
const buttons = [...document.querySelectorAll("[data-theme-choice]")];

function show(choice) {
  for (const button of buttons) button.setAttribute("aria-pressed", String(button.dataset.themeChoice === choice));
}

function remember(choice) {
  try {
    if (choice === "auto") localStorage.removeItem("mien-theme");
    else localStorage.setItem("mien-theme", choice);
  } catch {
    // storage is blocked: the choice lasts until the page is left
  }
}

function choose(choice) {
  if (choice === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = choice;
  remember(choice);
  show(choice);
}

for (const button of buttons) button.addEventListener("click", () => choose(button.dataset.themeChoice));
show(document.documentElement.dataset.theme ?? "auto");
