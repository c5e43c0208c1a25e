import com.couchbase.lite.CouchbaseLiteException;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import org.json.JSONException;
import org.json.JSONObject;

/** The output of the driver: one JSON object a line, from any thread. */
final class Wire {
  // Couchbase Lite adds these to the codes of other domains.
  private static final int NETWORK_BASE = 5000;
  private static final int HTTP_BASE = 10000;
  private static final int WEBSOCKET_BASE = 11000;

  private final PrintStream stream;

  Wire(PrintStream stream) {
    this.stream = stream;
  }

  synchronized void send(JSONObject line) {
    byte[] bytes = (line + "\n").getBytes(StandardCharsets.UTF_8);
    stream.write(bytes, 0, bytes.length);
    stream.flush();
  }

  /** The same as object.put, for values that JSON can always hold. */
  static void put(JSONObject object, String name, Object value) {
    try {
      object.put(name, value);
    } catch (JSONException e) {
      throw new IllegalStateException(e);
    }
  }

  /** An exception as the protocol shows it, with the client's offsets taken off the code; null for none. */
  static JSONObject error(Exception e) {
    if (e == null) return null;
    JSONObject out = new JSONObject();
    put(out, "message", String.valueOf(e.getMessage()));
    if (e instanceof CouchbaseLiteException) {
      int code = ((CouchbaseLiteException) e).getCode();
      if (code >= WEBSOCKET_BASE) domain(out, "WebSocket", code - HTTP_BASE);
      else if (code >= HTTP_BASE) domain(out, "HTTP", code - HTTP_BASE);
      else if (code >= NETWORK_BASE) domain(out, "Network", code - NETWORK_BASE);
      else domain(out, "CouchbaseLite", code);
    } else {
      domain(out, e instanceof UnsupportedOperationException ? "Unsupported" : "Driver", 0);
    }
    return out;
  }

  private static void domain(JSONObject out, String domain, int code) {
    put(out, "domain", domain);
    put(out, "code", code);
  }
}
