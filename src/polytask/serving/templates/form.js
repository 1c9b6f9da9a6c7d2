"use strict";
(function () {
  const form = document.getElementById("row");
  const error = document.getElementById("error");
  const answers = document.getElementById("answers");
  const source = document.getElementById("source");

  function part() {
    const name = source ? source.value : null;
    return [...form.querySelectorAll("fieldset[data-source]")].find((f) => name === null || f.dataset.source === name);
  }

  function show() {
    for (const f of form.querySelectorAll("fieldset[data-source]")) {
      f.hidden = f.disabled = f !== part();
    }
  }
  if (source) source.addEventListener("change", show);

  for (const field of form.querySelectorAll("input[type=file]")) {
    field.addEventListener("change", function () {
      field.dataset.inline = "";
      if (!field.files.length) return;
      const reader = new FileReader();
      field.reading = new Promise(function (done) { reader.addEventListener("loadend", done); });
      reader.addEventListener("load", function () { field.dataset.inline = reader.result; });
      reader.readAsDataURL(field.files[0]);
    });
  }
  form.addEventListener("reset", function () {
    for (const field of form.querySelectorAll("input[type=file]")) field.dataset.inline = "";
  });

  function cell(field) {
    if (field.type === "file") {
      if (field.files.length && !field.dataset.inline) throw new Error(field.dataset.column + " cannot be read");
      return field.dataset.inline || null;
    }
    const text = field.value.trim();
    if (text === "") return null;
    if (field.dataset.kind === "boolean") return text === "true";
    if (field.dataset.kind !== "numeric") return text;
    const number = Number(text);
    return Number.isFinite(number) ? number : text;  // the server says what is wrong with it
  }

  function row() {
    const array = part().querySelector("[data-array]");
    if (array) return JSON.parse(array.value);
    const cells = {};
    for (const field of part().querySelectorAll("[data-column]")) cells[field.dataset.column] = cell(field);
    return cells;
  }

  function refuse(message, column) {
    error.textContent = message;
    answers.hidden = true;
    for (const field of part().querySelectorAll("[data-column]")) {
      if (field.dataset.column !== column) continue;
      field.setAttribute("aria-invalid", "true");
      field.setAttribute("aria-describedby", "error");
      field.focus();
    }
  }

  function shown(value) {
    if (value === null) return "–";
    if (typeof value === "number" && !Number.isInteger(value)) return String(Number(value.toPrecision(5)));
    if (typeof value === "object") return Object.entries(value).map(([k, v]) => k + ": " + shown(v)).join("\n");
    return String(value);
  }

  function element(name, text, attributes) {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    for (const [key, value] of Object.entries(attributes || {})) made.setAttribute(key, value);
    return made;
  }

  function shares(probabilities) {
    const list = element("ul", undefined, { class: "shares" });
    const sorted = Object.entries(probabilities).sort((a, b) => b[1] - a[1]);
    for (const [label, share] of sorted.slice(0, 10)) {
      const item = element("li");
      const percent = (100 * share).toFixed(1) + " %";
      item.append(element("span", label), element("meter", percent, { min: 0, max: 1, value: share,
        "aria-label": label + ": " + percent }), element("span", percent));
      list.append(item);
    }
    if (sorted.length > 10) list.append(element("li", "and " + (sorted.length - 10) + " more"));
    return list;
  }

  function draw(predictions) {
    const body = answers.querySelector("tbody");
    body.replaceChildren();
    for (const [task, answer] of Object.entries(predictions)) {
      const line = element("tr");
      const last = element("td");
      if (answer.probabilities) last.append(shares(answer.probabilities));
      line.append(element("th", task, { scope: "row" }), element("td", shown(answer.value), { class: "value" }), last);
      body.append(line);
    }
    answers.hidden = false;
  }

  async function ask() {
    error.textContent = "";
    for (const field of form.querySelectorAll("[aria-invalid]")) {
      field.removeAttribute("aria-invalid");
      field.removeAttribute("aria-describedby");
    }
    for (const field of part().querySelectorAll("input[type=file]")) await field.reading;
    let body;
    try {
      body = JSON.stringify({ rows: [row()], source: part().dataset.source });
    } catch (problem) {
      refuse("The row cannot be sent: " + problem.message);
      return;
    }
    const headers = { "Content-Type": "application/json" };
    const key = document.getElementById("key").value;
    if (key) headers["X-API-Key"] = key;
    try {
      const response = await fetch("predict", { method: "POST", headers, body });
      const answer = await response.json();
      if (response.ok) draw(answer.predictions[0]);
      else {
        if (response.status === 401) document.getElementById("key-part").hidden = false;
        refuse(answer.error.message, answer.error.column);
      }
    } catch (problem) {
      refuse("The server cannot be reached: " + problem.message);
    }
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    ask();
  });
})();
