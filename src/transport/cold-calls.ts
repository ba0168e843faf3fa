// The calls that are not hot (Status), through the RPC library: gRPC, gRPC-web and Connect, as protobuf or JSON, so that
// ordinary tools can ask. They share the server with the stream of frames.

import type { Http2ServerRequest, Http2ServerResponse } from 'node:http2';
import { createConnectRouter } from '@connectrpc/connect';
import type { UniversalHandlerFn } from '@connectrpc/connect/protocol';
import {
  compressionGzip,
  universalRequestFromNodeRequest,
  universalResponseToNodeResponse,
} from '@connectrpc/connect-node';
import type { TransportContext } from '../ports/transport.ts';
import { Raft } from './generated/kommander/v1/raft_pb.ts';

/** Bytes of one request. */
const requestBytesMax = 65_536;

/** Answers one request. Never throws. */
export type ColdCallHandler = (request: Http2ServerRequest, response: Http2ServerResponse) => void;

/** The handler of every call but the stream of frames. */
export function coldCalls(context: TransportContext): ColdCallHandler {
  const router = createConnectRouter({
    acceptCompression: [compressionGzip],
    readMaxBytes: requestBytesMax,
  });
  router.rpc(Raft.method.status, () => ({ statusJson: context.status.statusJson() }));
  const handlers = new Map(router.handlers.map((handler) => [handler.requestPath, handler]));
  return (request, response) => {
    const [path = ''] = request.url.split('?', 1);
    const handler = handlers.get(path);
    if (handler === undefined) {
      response.writeHead(404);
      response.end();
      return;
    }
    answer(handler).catch((error: unknown) => {
      context.observer({
        level: 'debug',
        name: 'call-failed',
        fields: { path, message: String(error) },
      });
      if (!response.stream.destroyed) response.stream.destroy();
    });

    async function answer(handler: UniversalHandlerFn): Promise<void> {
      const call = universalRequestFromNodeRequest(request, response, undefined, undefined);
      await universalResponseToNodeResponse(await handler(call), response);
    }
  };
}
