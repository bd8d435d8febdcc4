// A trained model in a page: its file, its tokenizer, itself, and what shows
// it. No modules and no fetch: a page that is opened from the disk has none.
"use strict";

// --- the file ----------------------------------------------------------------
const TYPES = { // of safetensors; bfloat16 is the upper half of a float32
  I8: (buffer) => new Int8Array(buffer),
  F32: (buffer) => new Float32Array(buffer),
  BF16: (buffer) => new Float32Array(
    Uint32Array.from(new Uint16Array(buffer), (half) => half << 16).buffer),
};

/** The tensors of a safetensors file; codes times their row's scale. */
function readTensors(bytes) {
  const start = 8 + new DataView(bytes.buffer).getUint32(0, true);
  const head = new TextDecoder().decode(bytes.subarray(8, start));
  const raw = {}, tensors = {};
  for (const [name, entry] of Object.entries(JSON.parse(head))) {
    const [first, last] = entry.data_offsets.map((at) => start + at);
    raw[name] = TYPES[entry.dtype](bytes.slice(first, last).buffer);
  }
  for (const [name, data] of Object.entries(raw)) {
    const scales = raw[name.replace(/codes$/, "scales")];
    if (name.endsWith(".codes")) {
      const columns = data.length / scales.length;
      tensors[name.replace("matrix.codes", "weight")] = Float32Array.from(
        data, (code, i) => code * scales[Math.floor(i / columns)]);
    } else if (!name.endsWith(".scales")) tensors[name] = data;
  }
  return tensors;
}

// --- the tokenizer -----------------------------------------------------------
/** Text to tokens and back, by what tokenizer.json says. */
class Tokenizer {
  constructor({ alphabet, pattern, merges = [], special_tokens = {} }) {
    this.alphabet = alphabet && Array.from(alphabet);
    this.pattern = new RegExp(pattern ?? "", "gu"); // u: \p{L} is a letter
    this.ranks = new Map(merges.map(([a, b], i) => [`${a},${b}`, 256 + i]));
    this.tokens = Array.from({ length: 256 }, (_, byte) => [byte]);
    for (const [a, b] of merges)
      this.tokens.push([...this.tokens[a], ...this.tokens[b]]);
    for (const [text, id] of Object.entries(special_tokens))
      this.tokens[id] = [...new TextEncoder().encode(text)];
    this.end = special_tokens["<|endoftext|>"];
  }

  encode(text) {
    if (!this.alphabet)
      return (text.match(this.pattern) ?? []).flatMap((w) => this.join(w));
    return Array.from(text, (c) => {
      if (this.alphabet.includes(c)) return this.alphabet.indexOf(c);
      throw new Error(`This model has never seen “${c}”.`);
    });
  }

  /** The tokens of a word: join the pair that was learned first, and again. */
  join(word) {
    const ids = [...new TextEncoder().encode(word)];
    while (ids.length > 1) {
      let best = Infinity, at = 0;
      for (let i = 0; i + 1 < ids.length; i++) {
        const rank = this.ranks.get(`${ids[i]},${ids[i + 1]}`) ?? Infinity;
        if (rank < best) [best, at] = [rank, i];
      }
      if (best === Infinity) break;
      ids.splice(at, 2, best);
    }
    return ids;
  }

  /** The text of tokens; bytes that are no UTF-8 become U+FFFD. */
  decode(ids) {
    if (this.alphabet) return ids.map((id) => this.alphabet[id]).join("");
    const bytes = Uint8Array.from(ids.flatMap((id) => this.tokens[id]));
    return new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes);
  }
}

// --- the model ---------------------------------------------------------------
/** A matrix times a vector, plus a bias if there is one. */
function product(matrix, x, bias) {
  const out = new Float32Array(matrix.length / x.length);
  for (let row = 0, at = 0; row < out.length; row++) {
    let sum = bias ? bias[row] : 0;
    for (let i = 0; i < x.length; i++) sum += matrix[at++] * x[i];
    out[row] = sum;
  }
  return out;
}

/** Layer normalization, or RMSNorm: the same without the mean. */
function normalize(x, kind, eps, weight, bias) {
  let mean = 0, square = 0;
  if (kind === "layernorm") for (const v of x) mean += v / x.length;
  for (const v of x) square += (v - mean) ** 2 / x.length;
  const size = Math.sqrt(square + eps);
  return x.map((v, i) =>
    (v - mean) / size * (weight ? weight[i] : 1) + (bias ? bias[i] : 0));
}

/** Scores as probabilities; at temperature 0 all for the highest. */
function softmax(scores, temperature = 1) {
  const top = highest(scores); // exp(89) is infinite in float32
  const warm = Math.max(temperature, 1e-9);
  const p = scores.map((score) => Math.exp((score - top) / warm));
  const sum = p.reduce((a, b) => a + b, 0);
  return p.map((v) => v / sum);
}

/** The error function, to six decimals (Abramowitz and Stegun, 7.1.26). */
function erf(x) {
  const t = 1 / (1 + 0.3275911 * Math.abs(x));
  const terms = [1.061405429, -1.453152027, 1.421413741, -0.284496736];
  const sum = [...terms, 0.254829592].reduce((s, c) => (s + c) * t, 0);
  return Math.sign(x) * (1 - sum * Math.exp(-x * x));
}

const BEND = {
  gelu: (x) => 0.5 * x * (1 + erf(x / Math.SQRT2)),
  gelu_tanh: (x) => 0.5 * x
    * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))),
  swiglu: (x) => x / (1 + Math.exp(-x)),
};

/** Turn pairs of channels by the angles of position t. */
function rotate(x, t, base) {
  const half = x.length / 2;
  return x.map((v, i) => {
    const angle = t * base ** (-(i % half) / half);
    const other = i < half ? -x[i + half] : x[i - half];
    return v * Math.cos(angle) + other * Math.sin(angle);
  });
}

const dot = (a, b) => a.reduce((sum, v, i) => sum + v * b[i], 0);
const add = (a, b) => a.map((v, i) => v + b[i]);
const highest = (scores) => scores.reduce((a, b) => Math.max(a, b));

/** A model that reads token after token, and remembers keys and values. */
class Model {
  constructor(form, tensors) {
    Object.assign(this, { form, tensors, ids: [], stored: [] });
    this.weights = []; // attention of the last token: layer, head, position
    this.size = form.head_size ?? form.channels / form.heads;
  }

  linear(name, x) {
    const w = this.tensors;
    return product(w[`${name}.weight`], x, w[`${name}.bias`]);
  }

  norm(name, x) {
    const { form: c, tensors: w } = this;
    return normalize(
      x, c.norm, c.norm_eps, w[`${name}.weight`], w[`${name}.bias`]);
  }

  /** The scores of every next token, after one more token. */
  step(id) {
    const { form: c, tensors: w } = this, n = c.channels, t = this.ids.length;
    let x = w["token.weight"].slice(id * n, (id + 1) * n);
    if (c.position === "learned")
      x = add(x, w["position.weight"].subarray(t * n, (t + 1) * n));
    this.ids.push(id);
    this.stored.push([]); // for each layer, the heads of keys and values
    for (let i = 0; i < c.layers; i++) {
      const at = `blocks.${i}`;
      x = add(x, this.attention(i, this.norm(`${at}.norm1`, x)));
      x = add(x, this.feedForward(`${at}.mlp`, this.norm(`${at}.norm2`, x)));
    }
    return product(w["head.weight"] ?? w["token.weight"], this.norm("norm", x));
  }

  /** The last token looks at all that is stored, and at itself. */
  attention(layer, x) {
    const { form: c, size, stored } = this, t = stored.length - 1;
    const name = `blocks.${layer}.attention`, kv = c.kv_heads ?? c.heads;
    const qkv = this.linear(`${name}.qkv`, x);
    const heads = Array.from({ length: c.heads + 2 * kv }, (_, h) => {
      let head = qkv.slice(h * size, (h + 1) * size); // H queries, K keys
      if (h >= c.heads + kv) return head; // and K values
      if (c.qk_norm === "layernorm") head = normalize(head, c.qk_norm, 1e-5);
      return c.position === "rotary" ? rotate(head, t, c.rope_base) : head;
    });
    stored[t][layer] = heads.slice(c.heads);
    const mixed = new Float32Array(c.heads * size);
    this.weights[layer] = heads.slice(0, c.heads).map((query, h) => {
      const k = Math.floor(h * kv / c.heads);
      const p = softmax(stored.map(
        (then) => dot(query, then[layer][k]) / Math.sqrt(size)));
      for (let s = 0; s <= t; s++)
        for (let i = 0, v = stored[s][layer][kv + k]; i < size; i++)
          mixed[h * size + i] += p[s] * v[i];
      return p;
    });
    return this.linear(`${name}.out`, mixed);
  }

  feedForward(name, x) {
    const { mlp } = this.form, up = this.linear(`${name}.up`, x);
    const gate = mlp === "swiglu"
      && this.linear(`${name}.gate`, x).map(BEND.swiglu);
    const inner = up.map(gate ? (v, i) => v * gate[i] : BEND[mlp]);
    return this.linear(`${name}.down`, inner);
  }

  /** The scores after a text, of which only what is new is read. One that
  outgrows the context loses its older half, as in `generate`. */
  read(ids) {
    const context = this.form.context, hop = Math.max(1, context >> 1);
    const start = Math.ceil(Math.max(0, ids.length - context) / hop) * hop;
    let seen = ids.slice(start), same = 0;
    while (same < seen.length - 1 && this.ids[same] === seen[same]) same++;
    this.ids.length = this.stored.length = same; // forget the rest
    return seen.slice(same).map((id) => this.step(id)).at(-1);
  }
}

/** A token, drawn by its scores; at temperature 0 the likeliest. */
function choose(scores, temperature, random = Math.random) {
  let left = temperature ? random() : 2; // more than all shares: none is hit
  const found = softmax(scores, temperature).findIndex((p) => (left -= p) < 0);
  return found < 0 ? scores.indexOf(highest(scores)) : found;
}

// --- the page ----------------------------------------------------------------
/** Show the model in the page's elements, and listen to the reader. */
function start() {
  const at = Object.fromEntries([...document.querySelectorAll("[id]")]
    .map((element) => [element.id, element]));
  const { model: form, tokenizer: told } = JSON.parse(at.run.textContent);
  const bytes = Uint8Array.from(
    atob(at.weights.textContent), (c) => c.charCodeAt(0));
  const model = new Model(form, readTensors(bytes));
  const tokenizer = new Tokenizer(told);
  let ids, scores, timer;
  const percent = (p) => `${(100 * p).toFixed(1)} %`;
  const quoted = (id) => `“${tokenizer.decode([id])}”`;
  const make = (tag, words, size = 0) => {
    const made = document.createElement(tag);
    made.textContent = words;
    made.style.setProperty("--size", size); // how far CSS fills it
    return made;
  };
  const look = () => { // at the text as it is now
    at.degrees.value = at.heat.value;
    scores = model.read(ids);
    const p = [...softmax(scores, Number(at.heat.value))];
    const best = [...p.keys()].sort((a, b) => p[b] - p[a]).slice(0, 8);
    at.next.replaceChildren(...best.map((id) => {
      const item = make("li", ""), button = make("button", quoted(id));
      button.onclick = () => append(id);
      item.append(button, make("span", percent(p[id]), p[id]));
      return item;
    }));
    const [layer, head] = at.head.value.split(",");
    const seen = model.weights[layer][head], most = Math.max(...seen);
    at.seen.replaceChildren(...model.ids.map(
      (id, i) => make("span", tokenizer.decode([id]), seen[i])));
    if (timer) return; // too fast to be read aloud
    at.says.textContent = `Likeliest: ${quoted(best[0])}, `
      + `${percent(p[best[0]])}. This head looks most at `
      + `${quoted(model.ids[seen.indexOf(most)])}, ${percent(most)}.`;
  };
  const typed = () => {
    const text = at.text.value || (tokenizer.alphabet ? "\n" : "");
    try {
      ids = text ? tokenizer.encode(text) : [tokenizer.end];
      at.tools.disabled = false;
      look();
    } catch (error) { // a character that has no number
      stop(error.message);
      at.tools.disabled = true;
    }
  };
  const append = (id) => {
    if (id === tokenizer.end) return stop("Here the model ends its text.");
    ids.push(id);
    at.text.value = tokenizer.decode(ids.filter((i) => i !== tokenizer.end));
    look();
  };
  const once = () => append(choose(scores, Number(at.heat.value)));
  const onward = () => {
    timer = setTimeout(onward);
    at.write.textContent = "Stop";
    once();
  };
  const stop = (words) => {
    timer = clearTimeout(timer);
    at.write.textContent = "Write on";
    look();
    if (words) at.says.textContent = words;
  };
  at.text.oninput = typed;
  at.heat.oninput = at.head.onchange = look;
  at.once.onclick = once;
  at.write.onclick = () => (timer ? stop() : onward());
  typed();
}
