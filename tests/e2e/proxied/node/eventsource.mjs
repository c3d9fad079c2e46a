// npm's eventsource: reconnects and resumes by itself. Arguments: URL. Prints each event as a line of JSON.
import { EventSource } from "eventsource";

const source = new EventSource(process.argv[2]);
source.onmessage = (message) => {
  const event = JSON.parse(message.data);
  if (message.lastEventId && !event.type.startsWith("stream."))
    console.log(JSON.stringify({ id: message.lastEventId, type: event.type, data: event.data }));
  if (event.type === "stream.gap") process.exit(3);
  if (event.type === "stream.end") source.close();
};
source.onerror = (error) => {
  console.error(`connection lost: ${error.message ?? error.code ?? "closed"}`);
  // Told that nothing follows (204), or refused for good: no client comes back from that.
  if (source.readyState === EventSource.CLOSED) process.exit(error.code === 204 ? 0 : 4);
};
