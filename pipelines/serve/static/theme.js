// Before anything is drawn: the theme that was chosen on this page, else that of the system.
"use strict";
try {
  const chosen = localStorage.getItem("i2v-theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
} catch {
  // no storage: the system's theme it is
}
