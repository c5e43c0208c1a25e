import com.couchbase.lite.CouchbaseLite;
import com.couchbase.lite.Database;
import com.couchbase.lite.LogLevel;
import java.io.BufferedReader;
import java.io.File;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.Map;
import org.json.JSONException;
import org.json.JSONObject;

/**
 * A real Couchbase Lite client under the command of a test: reads one JSON command a line from standard input, carries them
 * out in order, and writes one JSON answer a line, with events in between. README.md beside this file has the protocol.
 */
public final class Driver {
  /** One command: takes its members, adds the members of the answer. */
  interface Command {
    void run(JSONObject in, JSONObject out) throws Exception;
  }

  private final Map<String, Command> commands = new HashMap<>();
  private final Wire wire;

  private Driver(Wire wire, File directory) {
    this.wire = wire;
    Databases databases = new Databases(wire, directory);
    databases.register(commands);
    new Documents(databases).register(commands);
    new Replicators(wire, databases).register(commands);
    commands.put("hello", Driver::hello);
  }

  /** Runs until standard input ends. The argument is the directory for the databases and for extracted libraries. */
  public static void main(String[] args) throws Exception {
    // Standard output belongs to the protocol: whatever the client library prints goes to standard error.
    Wire wire = new Wire(System.out);
    System.setOut(System.err);
    File directory = new File(args[0]).getCanonicalFile();
    File scratch = new File(directory, "scratch");
    if (!scratch.isDirectory() && !scratch.mkdirs()) throw new IOException("cannot make " + scratch);
    CouchbaseLite.init(false, directory, scratch);
    String level = System.getenv().getOrDefault("CBL_DRIVER_LOG", "none");
    Database.log.getConsole().setLevel(LogLevel.valueOf(level.toUpperCase()));
    new Driver(wire, directory).serve();
    // Not exit: replicators that a test left running would hold it up.
    Runtime.getRuntime().halt(0);
  }

  private void serve() throws IOException {
    BufferedReader input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    for (String line = input.readLine(); line != null; line = input.readLine()) wire.send(answer(line));
  }

  private JSONObject answer(String line) {
    JSONObject out = new JSONObject();
    try {
      JSONObject in = new JSONObject(line);
      out.put("id", in.get("id"));
      Command command = commands.get(in.getString("cmd"));
      if (command == null) throw new UnsupportedOperationException("no command " + in.getString("cmd"));
      command.run(in, out);
      out.put("ok", true);
    } catch (Exception e) {
      Wire.put(out, "ok", false);
      Wire.put(out, "error", Wire.error(e));
    }
    return out;
  }

  private static void hello(JSONObject in, JSONObject out) throws JSONException {
    out.put("client", "couchbase-lite-java");
    out.put("version", "3.0.0");
    out.put("collections", false);
    out.put("versionVectors", false);
  }
}
