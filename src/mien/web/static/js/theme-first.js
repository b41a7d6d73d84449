// Runs before the first paint, so that a chosen colour scheme never flashes the other one.
try {
  const choice = localStorage.getItem("mien-theme");
  if (choice === "light" || choice === "dark") document.documentElement.dataset.theme = choice;
} catch {
  // storage is blocked: the system's scheme it is
}
