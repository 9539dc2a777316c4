// The journey of isocenter's demonstration, driven by a TypeScript client of the SDK's authors:
//
//   node journey.mjs PLAN.json
//
// PLAN.json: {"modules": folder with node_modules, "package": "sdk" | "client", "mode": "legacy", "auto" or the revision it insists on,
//   "protocol": revision that must come out, "tools": how many the server has, "form": whether the client can show forms,
//   "asks": whether the server can reach the person, "row": which of the series found is used,
//   and "url" or "command" and "args": where the server is}
//
// The client compiles every output schema when it lists the tools and holds every structured answer against its own; what does
// not fit is thrown. Each assertion is counted; the last line says how many there were and which failed.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";

const plan = JSON.parse(readFileSync(process.argv[2], "utf8"));
const require = createRequire(`${plan.modules}/journey.js`);

let checks = 0;
const failed = [];
function check(what, got, wanted = true) {
  checks += 1;
  if (JSON.stringify(got) === JSON.stringify(wanted)) return;
  failed.push(what);
  console.error(`FAILED ${what}\n  got    ${JSON.stringify(got)?.slice(0, 2000)}\n  wanted ${JSON.stringify(wanted)}`);
}

const questions = [];
let answer = "accept";
function person(request) {
  questions.push(request.params.message);
  return answer === "accept" ? { action: "accept", content: { confirm: true } } : { action: answer };
}

function connected() {
  const about = { name: "isocenter-journey", version: "1" };
  const capabilities = plan.form ? { elicitation: { form: {} } } : {};
  if (plan.package === "sdk") {
    const { Client } = require("@modelcontextprotocol/sdk/client/index.js");
    const { StdioClientTransport } = require("@modelcontextprotocol/sdk/client/stdio.js");
    const { StreamableHTTPClientTransport } = require("@modelcontextprotocol/sdk/client/streamableHttp.js");
    const { ElicitRequestSchema } = require("@modelcontextprotocol/sdk/types.js");
    const client = new Client(about, { capabilities });
    if (plan.form) client.setRequestHandler(ElicitRequestSchema, person);
    return [client, plan.url ? new StreamableHTTPClientTransport(new URL(plan.url)) : new StdioClientTransport(plan)];
  }
  const { Client, StreamableHTTPClientTransport } = require("@modelcontextprotocol/client");
  const { StdioClientTransport } = require("@modelcontextprotocol/client/stdio");
  const mode = ["legacy", "auto"].includes(plan.mode) ? plan.mode : { pin: plan.mode };
  const client = new Client(about, { capabilities, versionNegotiation: { mode } });
  if (plan.form) client.setRequestHandler("elicitation/create", async (request) => person(request));
  return [client, plan.url ? new StreamableHTTPClientTransport(new URL(plan.url)) : new StdioClientTransport(plan)];
}

const [client, transport] = connected();
let negotiated;
const setProtocolVersion = transport.setProtocolVersion?.bind(transport);
transport.setProtocolVersion = (version) => {
  negotiated = version; // the older client tells nobody but its transport
  setProtocolVersion?.(version);
};
await client.connect(transport);

let told = 0;
async function call(name, given = {}) {
  const parameters = { name, arguments: given };
  const options = { timeout: 60_000, onprogress: () => (told += 1) };
  return plan.package === "sdk" ? client.callTool(parameters, undefined, options) : client.callTool(parameters, options);
}
const text = (result) => result.content.filter((part) => part.type === "text").map((part) => part.text).join("\n");
async function must(name, given) {
  const result = await call(name, given);
  check(`${name} succeeds`, result.isError ? text(result) : true);
  return result.structuredContent ?? {};
}
async function refused(name, given, words) {
  const result = await call(name, given);
  check(`${name} is refused`, result.isError && !("structuredContent" in result));
  check(`${name} is refused because: ${words}`, text(result).includes(words) || text(result));
}
async function thrown(what, code) {
  try {
    await what();
    return "nothing thrown";
  } catch (error) {
    return error.code === code || String(error);
  }
}

check("the era", client.getNegotiatedProtocolVersion?.() ?? negotiated, plan.protocol);
check("who serves", client.getServerVersion().name, "isocenter");
check("the usage map", client.getInstructions().includes("find_series"));

const { tools } = await client.listTools();
check("all tools", tools.length, plan.tools);
check("names", new Set(tools.map((tool) => tool.name)).size, plan.tools);
check("most tools promise a form of answer", tools.filter((tool) => tool.outputSchema).length > 0.9 * tools.length);

const found = await must("find_series", { modalities: ["CT"], body_parts: ["CHEST"] });
const series = found.rows[plan.row].SeriesInstanceUID;
check("a chest CT", found.rows[plan.row].Modality, "CT");

const fetched = await call("fetch_series", { series_uids: [series] });
check("downloaded", fetched.structuredContent.done + fetched.structuredContent.there_before, 1);
check("a link to the series", fetched.content.some((part) => part.type === "resource_link" && part.uri.endsWith(series)));

const shown = await call("preview_series", { series_uid: series });
const pictures = shown.content.filter((part) => part.type === "image");
check("a picture", pictures.length, 1);
check("it is one", /^(iVBORw0KGgo|\/9j\/)/.test(pictures[0].data));
check("nothing that hides the picture", !("structuredContent" in shown));

const header = await must("inspect_dicom", { series_uid: series, elements: ["Modality", "Rows"] });
check("its header", header.rows.find((row) => row.name === "Modality")?.value, "CT");

if (plan.asks) {
  answer = "decline";
  await refused("analyse_series", { series_uid: series, wait_seconds: 0 }, "declined");
  check("the person saw where the data go", questions.at(-1).includes("Qure.ai"));
  answer = "accept";
  check("analysis started", (await must("analyse_series", { series_uid: series, wait_seconds: 0 })).state, "running");

  await must("delete_circus_series", { seriesUid: series }); // or nothing would be sent there
  const opened = await must("open_case", { series_uid: series, project: "Lung nodules", tags: ["journey"] });
  check("the series was sent to CIRCUS", opened.uploaded);
  check("the person was asked about CIRCUS", questions.at(-1).includes("CIRCUS"));
  const caseId = opened.case_id;
  check("the case has its tag", (await must("get_case", { caseId })).data.tags, ["journey"]);
  answer = "decline";
  await refused("delete_case", { caseId }, "declined");
  check("the person saw which case", questions.at(-1).includes(caseId));
  check("the case is still there", (await must("get_case", { caseId })).data.caseId, caseId);
  answer = "accept";
  await must("delete_case", { caseId });
  await refused("get_case", { caseId }, "404");

  const analysis = await must("follow_analysis", { uids: [series], wait_seconds: 45 });
  check("analysed", analysis.state, "done");
  check("progress was told", told > 0);
  check("findings are there", analysis.rows[0].files > 0);
} else {
  await refused("analyse_series", { series_uid: series, wait_seconds: 0 }, "this client cannot ask");
  const opened = await must("open_case", { series_uid: series, project: "Lung nodules" });
  check("nothing was sent to CIRCUS, which has the series", opened.uploaded, false);
  const caseId = opened.case_id;
  await refused("delete_case", { caseId }, "this client cannot ask");
  check("the case is still there", (await must("get_case", { caseId })).data.caseId, caseId);
  check("no one was asked", questions.length, 0);
}

await refused("search_series", { BodyPart: "CHEST" }, "Did you mean BodyPartExamined?");
check("an unknown tool is a protocol error", await thrown(() => call("find_serious"), -32602));

const simple = tools.filter((tool) => tool.annotations.readOnlyHint && !tool.inputSchema.required?.length && tool.outputSchema);
let structured = 0;
for (const tool of simple) {
  const result = await call(tool.name);
  if (!result.isError) structured += result.structuredContent !== undefined;
}
check("every tool that needs no argument keeps its promise", structured > 30 || structured);

check("resources", (await client.listResources()).resources.length > 4);
check("prompts", (await client.listPrompts()).prompts.length > 4);
const known = await client.complete({ ref: { type: "ref/prompt", name: "find_and_download" }, argument: { name: "modality", value: "C" } });
check("completions", known.completion.values.includes("CT"));
await client.close();

console.log(JSON.stringify({ checks, failed, questions: questions.length, structured }));
process.exit(failed.length ? 1 : 0);
