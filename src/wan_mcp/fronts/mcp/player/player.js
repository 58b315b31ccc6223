// The player speaks the MCP Apps protocol (2026-01-26) with its host: JSON-RPC messages to the parent window.
// It needs no network: everything comes from tools and resources of the server, by way of the host.
"use strict";
{
  const PROTOCOL = "2026-01-26";
  const LOOK_S = 2; // of one call of get_job while the job runs
  const SEARCH_MS = 1500; // between looks for the job of a call that has not returned
  const RETRIES = 5;
  const MOST_BYTES = 64e6; // of a file that is loaded into the page
  const ENDED = ["succeeded", "failed", "cancelled"];
  const setting = (name) => document.querySelector(`meta[name=wan-${name}]`).content;
  const PIECE_BYTES = Number(setting("piece-bytes"));
  const part = (id) => document.getElementById(id);
  const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

  // The host

  const asked = new Map();
  let lastId = 0;
  let host = {};

  const send = (message) => window.parent.postMessage({ jsonrpc: "2.0", ...message }, "*");

  function ask(method, params) {
    lastId += 1;
    const id = lastId;
    return new Promise((resolve, reject) => {
      asked.set(id, { resolve, reject });
      send({ id, method, params });
    });
  }

  async function call(name, args) {
    const result = await ask("tools/call", { name, arguments: args });
    if (result.isError) throw new Error(words(result) || `${name} failed`);
    return result;
  }

  window.addEventListener("message", ({ source, data }) => {
    if (source !== window.parent || data?.jsonrpc !== "2.0") return;
    if (data.method === undefined) {
      const one = asked.get(data.id);
      asked.delete(data.id);
      if (data.error) one?.reject(new Error(data.error.message));
      else one?.resolve(data.result);
    } else if (data.id !== undefined) {
      const known = ["ping", "ui/resource-teardown"].includes(data.method);
      if (data.method === "ui/resource-teardown") turn += 1; // nothing is asked for any more
      send(known ? { id: data.id, result: {} } : { id: data.id, error: { code: -32601, message: "Method not found" } });
    } else {
      notified[data.method]?.(data.params ?? {});
    }
  });

  const notified = {
    "ui/notifications/tool-input": ({ arguments: given }) => begin(given ?? {}),
    "ui/notifications/tool-result": (result) => take(result),
    "ui/notifications/tool-cancelled": () => {
      if (!facts) say("The call was cancelled before its job was known. list_jobs finds the job.");
    },
    "ui/notifications/host-context-changed": dress,
  };

  function dress(context) {
    if (context.theme) document.documentElement.dataset.theme = context.theme;
    for (const [name, value] of Object.entries(context.styles?.variables ?? {})) {
      if (value) document.documentElement.style.setProperty(name, value);
    }
  }

  // The job

  let turn = 0; // of what is followed: an answer to an earlier question is dropped
  let facts = null; // the latest answer about the job
  let shown = ""; // address of the file on the stage
  let remixed = false;

  function begin(given) {
    const prompt = given.prompt ?? "";
    part("prompt").textContent = prompt;
    part("prompt").hidden = !prompt;
    if (facts || !prompt) return;
    say("The call was sent.");
    search(prompt);
  }

  // A call returns when its wait is over. Until then its job is known by its prompt only.
  async function search(prompt) {
    turn += 1;
    const mine = turn;
    while (mine === turn) {
      await pause(SEARCH_MS);
      if (mine !== turn) return;
      try {
        const { structuredContent } = await call("list_jobs", { limit: 10 });
        const found = structuredContent?.jobs?.find(
          (job) => !ENDED.includes(job.status) && job.prompt && prompt.startsWith(job.prompt.replace(/…$/, "")),
        );
        if (found && mine === turn) return void follow(found.job_id);
      } catch {
        return; // the result of the call will come
      }
    }
  }

  function take(result) {
    turn += 1;
    show(result);
    const id = facts?.job_id || /Job (\w{8,})/.exec(words(result))?.[1];
    if (id && !ENDED.includes(facts?.status)) follow(id);
  }

  async function follow(id) {
    turn += 1;
    const mine = turn;
    let failures = 0;
    while (mine === turn) {
      try {
        const result = await call("get_job", { job_id: id, wait_s: LOOK_S, preview: true });
        if (mine !== turn) return;
        failures = 0;
        show(result);
        if (ENDED.includes(facts?.status)) return;
      } catch (error) {
        failures += 1;
        if (mine !== turn) return;
        say(error.message);
        if (failures > RETRIES) return;
        await pause(1000 * failures);
      }
    }
  }

  function show(result) {
    const before = facts;
    facts = result.structuredContent?.job_id ? result.structuredContent : facts;
    if (facts && before?.job_id !== facts.job_id) clear();
    say(words(result).split("\n")[0]);
    const picture = result.content?.find((block) => block.type === "image");
    if (picture) {
      part("sheet").src = `data:${picture.mimeType};base64,${picture.data}`;
      part("sheet").hidden = false;
    }
    if (!facts) return;
    const ended = ENDED.includes(facts.status);
    if (facts.request?.prompt) {
      part("prompt").textContent = facts.request.prompt;
      part("prompt").hidden = false;
    }
    part("progress").hidden = ended;
    part("progress").value = facts.progress ?? 0;
    part("cancel").hidden = ended;
    part("remix").hidden = !ended;
    if (facts.status === "succeeded") {
      if (facts.caption) say(facts.caption);
      list(part("notes"), facts.notes ?? []);
      choose(facts.artifacts[0]);
      if (remixed) inform();
    }
  }

  function clear() {
    shown = "";
    part("stage").replaceChildren();
    for (const id of ["stage", "sheet", "place", "results", "notes", "open"]) part(id).hidden = true;
  }

  // The files

  function choose(file) {
    if (!file || file.uri === shown) return;
    shown = file.uri;
    const many = facts.artifacts.length > 1;
    part("results").hidden = !many;
    part("results").replaceChildren(
      ...(many ? facts.artifacts : []).map((each, index) => {
        const button = document.createElement("button");
        button.type = "button";
        button.textContent = `${index + 1}, seed ${each.seed}`;
        button.setAttribute("aria-pressed", String(each === file));
        button.addEventListener("click", () => choose(each));
        return button;
      }),
    );
    part("place").textContent = file.path ?? file.url ?? file.uri;
    part("place").hidden = false;
    part("open").hidden = !(file.url && host.openLinks);
    part("open").onclick = () => ask("ui/open-link", { url: file.url }).catch((error) => say(error.message));
    load(file);
  }

  async function load(file) {
    if (file.bytes > MOST_BYTES) return say("The file is too large to play here. It is at the place below.");
    const pieces = [];
    try {
      for (let offset = 0; offset < file.bytes; offset += PIECE_BYTES) {
        const { contents } = await ask("resources/read", { uri: `${file.uri}?offset=${offset}&length=${PIECE_BYTES}` });
        if (file.uri !== shown) return;
        pieces.push(contents[0].blob); // whole groups of three bytes, so the texts can be joined
      }
    } catch (error) {
      return say(`The file cannot be read: ${error.message}`);
    }
    const video = file.mime_type.startsWith("video/");
    const element = document.createElement(video ? "video" : "img");
    element.src = `data:${file.mime_type};base64,${pieces.join("")}`;
    if (video) Object.assign(element, { controls: true, loop: true, muted: true, playsInline: true });
    else element.alt = part("prompt").textContent || "The image";
    element.setAttribute("aria-label", part("prompt").textContent || "The result");
    part("stage").replaceChildren(element);
    part("stage").hidden = false;
    if (!video) part("sheet").hidden = true; // a small version of the same
  }

  // What people do

  part("cancel").addEventListener("click", () => act("cancel", "cancel_job", { job_id: facts.job_id }));
  part("remix").addEventListener("click", async () => {
    if (await act("remix", "remix", { job_id: facts.job_id, seed: "new", wait_s: 0 })) remixed = true;
  });

  async function act(button, tool, args) {
    part(button).disabled = true;
    try {
      const result = await call(tool, args);
      take(result);
      return true;
    } catch (error) {
      say(error.message);
      return false;
    } finally {
      part(button).disabled = false;
    }
  }

  // The model did not make this call, so it is told of what has come of it.
  function inform() {
    remixed = false;
    if (!host.updateModelContext) return;
    const text = `The user made a remix in the player. ${facts.message}`;
    ask("ui/update-model-context", { content: [{ type: "text", text }] }).catch(() => {});
  }

  // Words

  function words(result) {
    return result.structuredContent?.message ?? result.content?.find((block) => block.type === "text")?.text ?? "";
  }

  function say(text) {
    if (text && part("status").textContent !== text) part("status").textContent = text;
  }

  function list(element, lines) {
    element.replaceChildren(
      ...lines.map((line) => Object.assign(document.createElement("li"), { textContent: line })),
    );
    element.hidden = !lines.length;
  }

  // The beginning

  new ResizeObserver(() => {
    const { width, height } = document.documentElement.getBoundingClientRect();
    send({ method: "ui/notifications/size-changed", params: { width: Math.ceil(width), height: Math.ceil(height) } });
  }).observe(document.documentElement);

  ask("ui/initialize", {
    protocolVersion: PROTOCOL,
    appInfo: { name: "wan-player", version: setting("version") },
    appCapabilities: {},
  }).then(
    ({ hostCapabilities, hostContext }) => {
      host = hostCapabilities ?? {};
      dress(hostContext ?? {});
      send({ method: "ui/notifications/initialized", params: {} });
    },
    (error) => say(`The host did not answer: ${error.message}`),
  );
}
