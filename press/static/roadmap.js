// The roadmap in a browser: which topics a track and a machine leave out, and
// which are done. What is done stays in this browser, in the form of the file
// that `python -m check` writes; it can be saved as that file, and loaded from
// it. Without this script the map is a drawing with links.
(() => {
  const KEPT = "book-progress", MACHINE = "book-budget";
  const VERSION = 1, LARGEST = 1e6; // of the file, and its bytes
  const STATES = { // what check/progress.py knows, in words
    todo: "", pass: "done", fail: "fails", regressed: "fails again",
    blocked: "waits for another", stale: "changed since it passed",
  };
  const SVG = "http://www.w3.org/2000/svg";
  const MARK = '<circle r="5"/><path d="M-2.6,.2 L-.7,2.2 L2.8,-2.2"/>';
  const before = new Map(); // what a topic was before it was turned
  const maps = [], cards = [];
  let known = kept();

  function isTable(data) {
    return typeof data === "object" && data !== null && !Array.isArray(data);
  }

  function read(text) { // Error says what is wrong with it
    let data;
    try { data = JSON.parse(text); } catch { throw Error("it is not JSON"); }
    const { version, topics, modules = {} } = data || {};
    if (!isTable(topics) || !isTable(modules)) {
      throw Error("it has no table of topics");
    }
    if (version !== VERSION) throw Error(`it is not of version ${VERSION}`);
    for (const [name, state] of Object.entries(topics)) {
      if (typeof state !== "string" || !Object.hasOwn(STATES, state)) {
        throw Error(`${name} is in no state that is known`);
      }
    }
    const table = (data) => new Map(Object.entries(data));
    return { topics: table(topics), modules: table(modules) };
  }

  function written(order) { // byte for byte as Python would
    const names = order.filter((name) => known.topics.has(name));
    const rest = [...known.topics.keys()].filter((x) => !order.includes(x));
    const table = (value) =>
      Object.fromEntries([...names, ...rest].map((x) => [x, value(x)]));
    const data = {
      version: VERSION,
      topics: table((name) => known.topics.get(name)),
      modules: table((name) => known.modules.get(name) ?? ""),
    };
    const escaped = (letter) =>
      `\\u${letter.charCodeAt(0).toString(16).padStart(4, "0")}`;
    const text = JSON.stringify(data, null, 1);
    return `${text.replace(/[\u007f-\uffff]/g, escaped)}\n`;
  }

  function kept() {
    try { return read(localStorage.getItem(KEPT)); } catch {
      return { topics: new Map(), modules: new Map() };
    }
  }

  function keep(key, text) {
    try { localStorage.setItem(key, text); } catch { /* in this page only */ }
  }

  const isDone = (name) => known.topics.get(name) === "pass";

  // Turning twice gives back what was there. A mark by hand has no hash of a
  // module, so that the check does not take it for a pass of its own.
  function turn(name) {
    const now = [known.topics.get(name), known.modules.get(name)];
    const done = isDone(name), was = before.get(name);
    const other = was && (was[0] === "pass") !== done;
    const [state, hash] = other ? was : done ? [] : ["pass", ""];
    known.modules.set(name, hash);
    known.topics.set(name, state);
    if (!state) known.topics.delete(name);
    before.set(name, now);
    keep(KEPT, written([]));
    show();
  }

  function make(kind, attributes, ...content) {
    const element = document.createElement(kind);
    Object.assign(element, attributes);
    element.append(...content);
    return element;
  }

  function equip(card) {
    const name = card.id.replace(/^card-/, "");
    const title = card.querySelector(".admonition-title");
    const box = make("input", { type: "checkbox" });
    box.setAttribute("aria-label", `Done: ${title.innerText}`);
    box.addEventListener("change", () => turn(name));
    const state = make("span"), label = make("label", {}, box, "Done");
    title.after(make("p", { className: "card-done" }, label, state));
    cards.push({ show() {
      box.checked = isDone(name);
      const word = box.checked ? "" : STATES[known.topics.get(name)];
      state.textContent = word ? ` (${word})` : "";
    } });
  }

  class Roadmap {
    constructor(script) {
      const { topics, budgets } = JSON.parse(script.textContent);
      const svg = script.parentElement.querySelector("svg.roadmap");
      const titles = new Map(topics.map((topic) => [topic.title, topic]));
      this.topics = topics;
      this.links = [...svg.querySelectorAll("a")]
        .map((link) => [link, titles.get(link.getAttribute("aria-label"))])
        .filter(([, topic]) => topic);
      for (const [link, topic] of this.links) this.equip(link, topic);
      this.says = make("p", { className: "roadmap-says" });
      this.says.setAttribute("role", "status");
      this.summary = make("p", { className: "roadmap-summary" });
      const frame = make("div", { className: "roadmap-frame", tabIndex: 0 });
      frame.setAttribute("role", "region"); // it scrolls on a phone
      frame.setAttribute("aria-label", "Map of the topics");
      svg.before(this.tools(budgets), this.summary, this.says, frame);
      frame.append(svg);
      new MutationObserver(() => this.filtered())
        .observe(document.documentElement, { attributeFilter: ["data-track"] });
    }

    tools(budgets) {
      this.machine = make("select", {}, new Option("any", ""));
      Object.entries(budgets).forEach(
        ([id, title]) => this.machine.add(new Option(title, id)));
      try {
        const last = localStorage.getItem(MACHINE);
        if (Object.hasOwn(budgets, last)) this.machine.value = last;
      } catch { /* a browser that keeps nothing */ }
      this.machine.onchange = () => {
        keep(MACHINE, this.machine.value);
        this.filtered();
      };
      const save = make("button", { type: "button" }, "Save progress");
      save.onclick = () => this.save();
      const file = make("input", { type: "file", accept: ".json" });
      file.onchange = () => this.load(file);
      return make("div", { className: "roadmap-tools" },
        make("label", {}, "Machine: ", this.machine), save,
        make("label", {}, "Load progress: ", file));
    }

    equip(link, topic) {
      const { x, y, width } = link.getBBox();
      const mark = document.createElementNS(SVG, "g");
      mark.classList.add("mark");
      mark.setAttribute("transform", `translate(${x + width - 1},${y + 2})`);
      mark.innerHTML = MARK; // a disk and a tick
      link.append(mark);
      link.addEventListener("keydown", (event) => {
        if (event.key !== " ") return;
        event.preventDefault();
        if (!event.repeat) turn(topic.id);
        const word = isDone(topic.id) ? "done" : "not done";
        this.say(`${topic.title}: ${word}. ${this.count()}`);
      });
    }

    pale(topic, track) { // why it is, in words
      const skimmed = track && topic.tracks[track] === "skim";
      const lacks = topic.lacks[this.machine.value];
      return [skimmed ? `not for ${track}s` : "", lacks || ""].filter(Boolean);
    }

    show() {
      const track = document.documentElement.dataset.track || "";
      const reasons = new Map();
      for (const [link, topic] of this.links) {
        const pale = this.pale(topic, track);
        const optional = Boolean(track) && topic.tracks[track] === "optional";
        const state = STATES[known.topics.get(topic.id)] || "";
        link.classList.toggle("pale", pale.length > 0);
        link.classList.toggle("optional", optional && !pale.length);
        link.classList.toggle("done", isDone(topic.id));
        const words = [topic.title, optional ? "optional" : "", ...pale, state];
        link.setAttribute("aria-label", words.filter(Boolean).join(", "));
        for (const reason of pale) {
          reasons.set(reason, [...(reasons.get(reason) || []), topic.id]);
        }
      }
      const dotted = [...reasons]
        .map(([reason, names]) => `${reason} (${names.join(", ")})`).join("; ");
      this.summary.textContent = [this.count(),
        dotted && `Pale and dotted: ${dotted}.`,
        track ? `Dashed: optional for ${track}s.` : "",
        "Enter opens the card of a box, Space marks its topic as done.",
      ].filter(Boolean).join(" ");
    }

    count() {
      const done = this.topics.filter((topic) => isDone(topic.id)).length;
      return `Done: ${done} of ${this.topics.length} topics.`;
    }

    say(words) { this.says.textContent = words; }

    filtered() {
      this.show();
      const pale = this.links.filter(([x]) => x.classList.contains("pale"));
      this.say(`Pale: ${pale.length} of ${this.links.length} topics.`);
    }

    save() {
      const text = written(this.topics.map((topic) => topic.id));
      const blob = new Blob([text], { type: "application/json" });
      const href = URL.createObjectURL(blob);
      make("a", { href, download: "progress.json" }).click();
      setTimeout(() => URL.revokeObjectURL(href), 1000); // when it is saved
      this.say(`Saved as progress.json. ${this.count()}`);
    }

    async load(input) {
      const [file] = input.files;
      if (!file) return;
      try {
        if (file.size > LARGEST) throw new Error("it is too large");
        known = read(await file.text());
        before.clear();
        keep(KEPT, written([]));
        show();
        this.say(`Loaded. ${this.count()}`);
      } catch (error) {
        this.say(`${file.name} was not loaded: ${error.message}. Choose the `
          + "progress.json of your repository. Nothing has changed.");
      }
      input.value = "";
    }
  }

  function show() {
    for (const part of [...maps, ...cards]) part.show();
  }

  document.addEventListener("DOMContentLoaded", () => {
    document.querySelectorAll(".roadmap-facts")
      .forEach((script) => maps.push(new Roadmap(script)));
    document.querySelectorAll(".bookbox-card").forEach(equip);
    show();
    const again = () => { known = kept(); show(); };
    window.addEventListener("storage", again); // another page has changed it
    window.addEventListener("pageshow", again); // or this one, and came back
  });
})();
