(() => {
  "use strict";
  const root = document.documentElement;
  const radios = document.querySelectorAll('input[name="language"]');
  const memory = {
    get: () => { try { return localStorage.getItem("glmreport-language"); } catch { return null; } },
    set: (value) => { try { localStorage.setItem("glmreport-language", value); } catch { /* none */ } },
  };

  const show = (language) => {
    root.lang = language === "zh" ? "zh-CN" : "en";
    document.title = root.dataset[language];
    radios.forEach((radio) => { radio.checked = radio.value === language; });
  };
  const known = (language) => (/^(zh|en)/i.exec(language || "") || [""])[0].toLowerCase();
  const asked = new URLSearchParams(location.search).get("lang");
  show([asked, memory.get(), navigator.language].map(known).find(Boolean) || "en");
  radios.forEach((radio) => radio.addEventListener("change", () => {
    show(radio.value);
    memory.set(radio.value);
  }));

  root.classList.add("script");
  const select = (element) => getSelection().selectAllChildren(element);
  document.addEventListener("click", async (event) => {
    const button = event.target.closest(".copy");
    if (!button) return;
    const code = button.parentElement.querySelector("code");
    try {
      await navigator.clipboard.writeText(code.textContent);
    } catch {
      select(code);
      if (!document.execCommand("copy")) return;
    }
    button.classList.add("done");
    setTimeout(() => button.classList.remove("done"), 1600);
  });

  const open = (details) => { if (details) details.open = true; };
  const jump = () => open(location.hash && document.getElementById(location.hash.slice(1)));
  addEventListener("hashchange", jump);
  addEventListener("DOMContentLoaded", jump);
  addEventListener("beforeprint", () => document.querySelectorAll("details").forEach(open));
})();
