// An error: its sentence, and one button that does what it says.

import { api } from "../core/api.js";
import { Icon, html } from "../core/dom.js";
import { go } from "../core/routes.js";
import { toast } from "../core/toasts.js";
import { S } from "../strings.js";

/** Do what a button of the server's means; `other` does what only the place knows: change and retry. */
export async function act(action, other) {
  try {
    if (action.do === "get_model") {
      await api.getModel(action.model);
      go("#/models");
    } else if (action.do === "free_memory") {
      const { asked } = await api.freeMemory();
      toast(asked ? S.engine.freed : S.engine.nothingToFree);
    } else if (action.do === "make_room") {
      go("#/models");
    } else if (action.do === "sign_in") {
      location.assign("/sign-in");
    } else {
      other?.(action);
    }
  } catch (problem) {
    toast(problem.message);
  }
}

export function ProblemNotice({ problem, act: other }) {
  const action = problem.action;
  return html`<div class="notice bad" role="alert">
    <${Icon} name="circle-alert" />
    <div class="stack tight grow">
      <span>${problem.message ?? problem.error}</span>
      ${action && (other || !["retry", "change", "remix"].includes(action.do)) && html`<div>
        <button type="button" class="button tiny" onClick=${() => act(action, other)}>${action.label}</button>
      </div>`}
    </div>
  </div>`;
}
