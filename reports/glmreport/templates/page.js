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

  const book = (block) => {
    const leaves = [...block.querySelectorAll(".leaf")];
    const position = block.querySelector(".turner .position");
    const [previous, next] = block.querySelectorAll(".turner button");
    const links = block.querySelectorAll(".contents a");
    const chapterOf = (leaf) => leaf.closest(".chapter");
    let at = -1;

    const go = (place) => {
      const before = leaves[at], leaf = leaves[place];
      if (!leaf || leaf === before) return;
      at = place;
      if (before) before.classList.remove("current");
      leaf.classList.add("current");
      position.replaceChildren(...leaf.querySelector(".position").cloneNode(true).childNodes);
      previous.setAttribute("aria-disabled", at === 0);
      next.setAttribute("aria-disabled", at === leaves.length - 1);
      links.forEach((link) => {
        const here = link.hash === `#${chapterOf(leaf).id}`;
        if (here) link.setAttribute("aria-current", "true");
        else link.removeAttribute("aria-current");
      });
    };
    const turn = (step) => {
      const before = leaves[at];
      go(at + step);
      const leaf = leaves[at];
      if (leaf === before) return;
      history.replaceState(history.state, "", `#${leaf.id}`);
      const top = chapterOf(leaf) === chapterOf(before) ? leaf : chapterOf(leaf);
      if (top.getBoundingClientRect().top < 0) top.scrollIntoView();
    };
    const find = (target) => {
      const place = leaves.findIndex((leaf) => leaf === target || chapterOf(leaf) === target);
      if (place < 0) return;
      go(place);
      target.scrollIntoView();
    };

    previous.addEventListener("click", () => turn(-1));
    next.addEventListener("click", () => turn(1));
    block.classList.add("turning");
    const contents = block.querySelector(".contents");
    if (contents && matchMedia("(max-width: 40rem)").matches) contents.open = false;
    go(0);
    return { block, turn, find };
  };

  let books = [];
  addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const taken = event.target.closest && event.target.closest("input, .code, .table, .tokens");
    if (!step || taken || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    const found = books.find(({ block }) => block.contains(event.target)) || books[0];
    if (!found) return;
    event.preventDefault();
    found.turn(step);
  });

  const open = (details) => { if (details) details.open = true; };
  const jump = () => {
    const target = location.hash && document.getElementById(location.hash.slice(1));
    open(target);
    if (target) books.forEach(({ find }) => find(target));
  };
  addEventListener("hashchange", jump);
  addEventListener("DOMContentLoaded", () => {
    books = [...document.querySelectorAll(".leaves")].map(book);
    jump();
  });
  addEventListener("beforeprint", () => document.querySelectorAll("details").forEach(open));
})();
