"use strict";
// All the code of these pages. What comes from the server is put in as text.
(() => {
  const api = "/api/v1";
  const find = (selector) => document.querySelector(selector);

  // --- asking -----------------------------------------------------------------

  let renewing = null;
  // One at a time in this tab; another tab that was faster answers 409.
  // It goes on when the page is left: a token whose successor got lost looks stolen.
  const renew = () => renewing ??= fetch(api + "/auth/refresh", { method: "POST", keepalive: true })
    .then((answer) => answer.ok || answer.status === 409)
    .catch(() => false)
    .finally(() => { renewing = null; });

  const toLogin = () => {
    const next = location.pathname + location.search;
    location.assign("/login?next=" + encodeURIComponent(next));
  };

  async function ask(method, url, body, etag, type) {
    const send = () => {
      const headers = {};
      if (body !== undefined) headers["content-type"] = type ?? "application/json";
      if (etag && etag !== "0") headers["if-match"] = `"${etag}"`;
      return fetch(url, { method, headers, body });
    };
    let answer = await send();
    if (answer.status === 401 && await renew()) answer = await send();
    if (answer.status === 401) { toLogin(); throw new Error("log in again"); }
    const text = await answer.text();
    let value = {};
    try { value = JSON.parse(text); } catch { /* not from us */ }
    if (!answer.ok) {
      const hint = value.details?.hint ? "\n" + value.details.hint : "";
      throw new Error((value.error ?? `${answer.status} ${answer.statusText}`) + hint);
    }
    return value;
  }

  let hiding;
  function say(text, bad) {
    const toast = find("#toast");
    if (!toast) return;
    toast.textContent = text;
    toast.className = bad ? "bad" : "";
    toast.hidden = false;
    clearTimeout(hiding);
    hiding = setTimeout(() => { toast.hidden = true; }, bad ? 9000 : 3000);
  }

  // --- logging in -----------------------------------------------------------------

  const form = find("#login");
  if (form) {
    const next = new URLSearchParams(location.search).get("next") ?? "/";
    // Only addresses of these pages.
    const to = new URL(next, location.origin);
    const go = () => location.replace(to.origin === location.origin ? to.pathname + to.search : "/");
    const problem = find("#problem");
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const fields = new FormData(form);
      const body = JSON.stringify({ username: fields.get("username"), password: fields.get("password") });
      const headers = { "content-type": "application/json" };
      try {
        const answer = await fetch(api + "/auth/login", { method: "POST", headers, body });
        if (answer.ok) return go();
        problem.textContent = (await answer.json()).error;
      } catch {
        problem.textContent = "the daemon does not answer";
      }
      problem.hidden = false;
      find("#password").select();
    });
    // A session may only need a new token.
    if (new URLSearchParams(location.search).has("next")) renew().then((done) => { if (done) go(); });
    return;
  }
  // Before the short token ends.
  setInterval(renew, 10 * 60 * 1000);

  // --- doing ------------------------------------------------------------------------

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    const data = button.dataset;
    if ("logout" in data) {
      await fetch(api + "/auth/logout", { method: "POST" }).catch(() => {});
      return location.assign("/login");
    }
    if (data.copy) {
      await navigator.clipboard?.writeText(find(data.copy).innerText);
      return say("copied");
    }
    if (!data.url || (data.confirm && !confirm(data.confirm))) return;
    button.disabled = true;
    try {
      await ask(data.method ?? "POST", data.url, data.body, data.etag);
      if (data.done) return location.assign(data.done);
      say(button.textContent.trim() + ": done");
      await redraw();
    } catch (error) {
      say(error.message, true);
    } finally {
      button.disabled = false;
    }
  });

  const filter = () => {
    const input = find("[data-filter]");
    if (!input) return;
    const wanted = input.value.toLowerCase();
    for (const row of find(input.dataset.filter).tBodies[0].rows) {
      row.classList.toggle("hide", !row.textContent.toLowerCase().includes(wanted));
    }
  };
  document.addEventListener("input", (event) => { if (event.target.matches("[data-filter]")) filter(); });
  document.addEventListener("change", (event) => {
    const box = event.target;
    if (!box.dataset.hide) return;
    document.querySelectorAll(box.dataset.hide).forEach((e) => e.classList.toggle("hide", box.checked));
  });

  // --- editing ------------------------------------------------------------------------

  const editor = find("[data-editor]");
  if (editor) {
    const text = find("#text"), problem = find("#problem"), before = text.value;
    const { method, url, etag, done, preview } = editor.dataset;
    const fail = (message) => { problem.textContent = message ?? ""; problem.hidden = !message; };
    let saved = false, timer, turn = 0;
    const show = async () => {
      const mine = ++turn;
      try {
        const made = await ask("POST", preview, text.value, "", "application/yaml");
        if (mine !== turn) return;
        fail();
        find("#digest").textContent = made.digest ?? "";
        find("#rendered").textContent = made.text ?? "";
        const changes = find("#changes");
        changes.replaceChildren();
        for (const line of (made.unified || "no difference to the latest").split("\n")) {
          const row = document.createElement("span");
          row.textContent = line;
          row.className = line.startsWith("@@") ? "hunk" : line.startsWith("+") ? "add" : line.startsWith("-") ? "del" : "";
          changes.append(row);
        }
      } catch (error) {
        if (mine === turn) fail(error.message);
      }
    };
    if (preview) {
      text.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(show, 600); });
      show();
    }
    editor.addEventListener("submit", async (event) => {
      event.preventDefault();
      try {
        await ask(method, url, text.value, etag, "application/yaml");
        saved = true;
        location.assign(done);
      } catch (error) {
        fail(error.message);
      }
    });
    addEventListener("beforeunload", (event) => { if (!saved && text.value !== before) event.preventDefault(); });
  }

  // --- staying up to date ---------------------------------------------------------------

  const topics = (document.body.dataset.topics ?? "").split(" ").filter(Boolean);
  async function redraw() {
    if (!topics.length) return location.reload();
    const answer = await fetch(location.href);
    if (answer.redirected) return toLogin();
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("#main");
    const main = find("#main"), typed = find("[data-filter]")?.value ?? "";
    if (!fresh || main.innerHTML === fresh.innerHTML) return;
    // Whoever works with the keyboard stays where they are.
    const order = [...main.querySelectorAll("a,button,input,select")];
    const index = order.indexOf(document.activeElement);
    main.replaceChildren(...fresh.childNodes);
    if (typed) { find("[data-filter]").value = typed; filter(); }
    if (index >= 0) main.querySelectorAll("a,button,input,select")[index]?.focus();
  }

  let stream, waiting, leaving = false, last = 0;
  const soon = () => { waiting ??= setTimeout(() => { waiting = null; redraw().catch(() => {}); }, 250); };
  function listen() {
    const sign = find("#live");
    stream = new EventSource(api + "/events");
    stream.onopen = () => {
      sign.textContent = "live"; sign.classList.add("on");
      if (last++ && topics.length) soon();
    };
    stream.onerror = () => {
      if (leaving) return;
      sign.textContent = "offline"; sign.classList.remove("on");
      // A refused stream is not tried again by itself: the token may be over.
      if (stream.readyState !== EventSource.CLOSED) return;
      setTimeout(() => ask("GET", api + "/auth/me").catch(() => {}).then(listen), 3000);
    };
    for (const topic of topics) {
      stream.addEventListener(topic, (event) => { if (JSON.parse(event.data).type === "delta") soon(); });
    }
  }
  if (find("#live")) listen();
  addEventListener("pagehide", () => { leaving = true; stream?.close(); });
  // A page that comes out of the browser's memory is an old one.
  addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
})();
