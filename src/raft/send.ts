// The outbox. What may leave at once and what must wait until the present state is durable is decided here, once:
// votes and acknowledgements are promises about stored state, so they wait (Figure 2: "updated on stable storage
// before responding to RPCs").

import { assert } from '../base/assert.ts';
import type { RaftState } from './state.ts';
import type { PeerMessage } from './types.ts';

export function send(state: RaftState, message: PeerMessage): void {
  assert(message.term > 0 || message.type === 'appendEntriesResponse', 'messages carry a term');
  if (state.config.trace !== undefined) state.config.trace({ type: 'sent', message });
  if (message.type === 'appendEntriesResponse' || message.type === 'requestVoteResponse') {
    state.messagesAfterAppend.push(message);
    return;
  }
  assert(message.to !== state.id, 'a replica sends only promises to itself');
  state.messages.push(message);
}
