// What every page has: the theme, and the menu on a narrow screen.
import { find } from "./dom.js";

const root = document.documentElement;
const dark = matchMedia("(prefers-color-scheme: dark)");

function theme() {
  return root.dataset.theme || (dark.matches ? "dark" : "light");
}

function named() {
  find("#theme").setAttribute("aria-label", theme() === "dark" ? "Light colours" : "Dark colours");
}

find("#theme").addEventListener("click", () => {
  root.dataset.theme = theme() === "dark" ? "light" : "dark";
  // A cookie, so that the next page comes in these colours.
  document.cookie = `guildgpt_theme=${root.dataset.theme}; path=/; max-age=31536000; samesite=strict`;
  named();
});
dark.addEventListener("change", named);
named();

const menu = find("#menu");
const opener = find("#menu-button");

function open(is) {
  menu.classList.toggle("open", is);
  opener.setAttribute("aria-expanded", String(is));
}

opener.hidden = menu.children.length < 2;
opener.addEventListener("click", () => open(!menu.classList.contains("open")));
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && menu.classList.contains("open")) {
    open(false);
    opener.focus();
  }
});
document.addEventListener("click", (event) => {
  if (!menu.contains(event.target) && !opener.contains(event.target)) open(false);
});
