// Dark, light, or as the system has it. Loaded before the first paint, so it is a classic script without imports.

(() => {
  const KEY = "wan-theme";
  const root = document.documentElement;
  const show = (theme) => (theme ? root.setAttribute("data-theme", theme) : root.removeAttribute("data-theme"));
  const kept = () => {
    try {
      return localStorage.getItem(KEY);
    } catch {
      return null; // storage is off
    }
  };
  show(kept());
  window.wanTheme = {
    dark: () => {
      const theme = root.getAttribute("data-theme");
      return theme ? theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    },
    toggle: () => {
      const theme = window.wanTheme.dark() ? "light" : "dark";
      show(theme);
      try {
        localStorage.setItem(KEY, theme);
      } catch {
        // it lasts until the page closes
      }
    },
  };
})();
