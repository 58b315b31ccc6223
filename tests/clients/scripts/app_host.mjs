// A host of MCP Apps in one page, of the official libraries: the server's client, and the bridge to an app.
// It draws the app of a tool as the specification says: in a frame without an origin, under the policy that the
// resource asks for. `window.wan` is what a test asks it to do, and what it has seen.
import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";
import { AppBridge, PostMessageTransport, getToolUiResourceUri } from "@modelcontextprotocol/ext-apps/app-bridge";

const seen = { informed: [], opened: [], sizes: [], reads: [], calls: [], initialized: false };
let client, tools;

function policyOf(csp) {
  const places = (names) => ["'self'", "data:", ...(names ?? [])].join(" ");
  return [
    "default-src 'none'", "script-src 'self' 'unsafe-inline'", "style-src 'self' 'unsafe-inline'",
    `img-src ${places(csp?.resourceDomains)}`, `media-src ${places(csp?.resourceDomains)}`,
    `connect-src ${csp?.connectDomains?.length ? csp.connectDomains.join(" ") : "'none'"}`,
  ].join("; ");
}

async function draw(tool, args) {
  const uri = getToolUiResourceUri(tools.find((each) => each.name === tool));
  const [page] = (await client.readResource({ uri })).contents;
  if (page.mimeType !== "text/html;profile=mcp-app") throw new Error(page.mimeType);
  const bridge = new AppBridge(null, { name: "test-host", version: "1" }, {
    serverTools: {}, serverResources: {}, openLinks: {}, updateModelContext: { text: {} },
  }, { hostContext: { theme: "dark", toolInfo: { tool: tools.find((each) => each.name === tool) } } });
  bridge.oncalltool = async (params) => { seen.calls.push(params); return client.callTool(params); };
  bridge.onreadresource = async (params) => { seen.reads.push(params.uri); return client.readResource(params); };
  bridge.onupdatemodelcontext = async (params) => { seen.informed.push(params); return {}; };
  bridge.onopenlink = async (params) => { seen.opened.push(params.url); return {}; };
  bridge.onsizechange = (params) => seen.sizes.push(params);
  const ready = new Promise((resolve) => { bridge.oninitialized = () => { seen.initialized = true; resolve(); }; });

  const frame = document.createElement("iframe");
  frame.sandbox = "allow-scripts";
  frame.width = 760; frame.height = 900;
  document.body.append(frame);
  await bridge.connect(new PostMessageTransport(frame.contentWindow, frame.contentWindow));
  const policy = `<meta http-equiv="Content-Security-Policy" content="${policyOf(page._meta?.ui?.csp)}">`;
  frame.srcdoc = page.text.replace("<head>", `<head>${policy}`);
  await ready;
  await bridge.sendToolInput({ arguments: args });
  client.callTool({ name: tool, arguments: args }).then((result) => bridge.sendToolResult(result));
}

window.wan = {
  seen,
  async connect(url) {
    client = new Client({ name: "test-host", version: "1" });
    await client.connect(new StreamableHTTPClientTransport(new URL(url)));
    tools = (await client.listTools()).tools;
  },
  draw,
};
document.title = "ready";
