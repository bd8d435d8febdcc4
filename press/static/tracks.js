// One switch for the whole site: for whom is it read? The choice is kept in
// this browser. Sections for others are folded, never lost; chapters that a
// track leaves out are grey in the table of contents.
(() => {
  const KEPT = "book-track";
  const NAMES = ["beginner", "practitioner", "researcher"];
  const root = document.documentElement;

  function kept() {
    try {
      const name = localStorage.getItem(KEPT);
      return NAMES.includes(name) ? name : "";
    } catch { return ""; } // a browser that keeps nothing
  }

  function keep(name) {
    try { localStorage.setItem(KEPT, name); } catch { /* for this page only */ }
  }

  function folded(section) {
    const track = root.dataset.track;
    return Boolean(track) && !section.classList.contains(`for-${track}`);
  }

  function show(name) {
    root.dataset.track = name;
    for (const note of document.querySelectorAll(".for-tracks")) {
      const section = note.closest("section");
      section.classList.toggle("folded", folded(section));
      note.querySelector("button").hidden = !folded(section);
    }
    const left = (window.bookLeftOut || {})[name] || [];
    for (const link of document.querySelectorAll(".bd-sidebar-primary a")) {
      const path = new URL(link.href, location).pathname;
      const out = left.some((page) => path.endsWith(`/${page}.html`));
      link.classList.toggle("left-out", out);
    }
  }

  function unfold() { // what an address leads to is not hidden from it
    const target = document.getElementById(location.hash.slice(1));
    const section = target && target.closest("section.folded");
    if (section) {
      section.classList.remove("folded");
      target.scrollIntoView();
    }
  }

  function buttons() {
    for (const note of document.querySelectorAll(".for-tracks")) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = "Show this section";
      button.addEventListener("click", () => {
        note.closest("section").classList.remove("folded");
        button.hidden = true;
      });
      note.append(button);
    }
  }

  function control() {
    const label = document.createElement("label");
    label.className = "track-switch";
    label.append("For ");
    const select = document.createElement("select");
    for (const name of ["", ...NAMES]) {
      select.add(new Option(name ? `${name}s` : "everybody", name));
    }
    select.value = kept();
    select.addEventListener("change", () => {
      keep(select.value);
      show(select.value);
    });
    label.append(select);
    const place = document.querySelector(".article-header-buttons");
    if (place) place.prepend(label);
  }

  document.addEventListener("DOMContentLoaded", () => {
    control();
    buttons();
    show(kept());
    unfold();
    window.addEventListener("hashchange", unfold);
  });
})();
