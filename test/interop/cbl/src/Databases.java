import com.couchbase.lite.Database;
import com.couchbase.lite.DatabaseConfiguration;
import com.couchbase.lite.ListenerToken;
import com.couchbase.lite.Query;
import com.couchbase.lite.Result;
import com.couchbase.lite.ResultSet;
import java.io.File;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Executor;
import java.util.concurrent.Executors;
import org.json.JSONArray;
import org.json.JSONException;
import org.json.JSONObject;

/** The open databases, and the commands on a database as a whole. */
final class Databases {
  /** Runs the client's listeners one after another, so that events leave in the order in which they happened. */
  final Executor listeners = Executors.newSingleThreadExecutor(task -> {
    Thread thread = new Thread(task, "listeners");
    thread.setDaemon(true);
    return thread;
  });

  private final Map<String, Database> open = new HashMap<>();
  private final Map<String, ListenerToken> tokens = new HashMap<>();
  private final Wire wire;
  private final File directory;

  Databases(Wire wire, File directory) {
    this.wire = wire;
    this.directory = directory;
  }

  void register(Map<String, Driver.Command> commands) {
    commands.put("open", this::open);
    commands.put("close", (in, out) -> forget(in).close());
    commands.put("drop", (in, out) -> forget(in).delete());
    commands.put("count", (in, out) -> out.put("count", named(in).getCount()));
    commands.put("ids", (in, out) -> out.put("ids", new JSONArray(ids(named(in)))));
    commands.put("digest", this::digest);
  }

  /** The open database that a command names. Collections other than the default one are unknown to this client. */
  Database named(JSONObject in) throws JSONException {
    if (in.has("scope") || in.has("collection") || in.has("collections")) {
      throw new UnsupportedOperationException("this client has no collections");
    }
    Database database = open.get(in.getString("database"));
    if (database == null) throw new IllegalArgumentException("no open database " + in.getString("database"));
    return database;
  }

  private void open(JSONObject in, JSONObject out) throws Exception {
    String name = in.getString("database");
    if (open.containsKey(name)) throw new IllegalArgumentException("already open: " + name);
    DatabaseConfiguration config = new DatabaseConfiguration();
    config.setDirectory(directory.getPath());
    Database database = new Database(name, config);
    open.put(name, database);
    JSONObject changed = new JSONObject();
    changed.put("event", "changed");
    changed.put("database", name);
    tokens.put(name, database.addChangeListener(listeners, change -> wire.send(changed)));
  }

  private Database forget(JSONObject in) throws JSONException {
    Database database = named(in);
    database.removeChangeListener(tokens.remove(in.getString("database")));
    open.remove(in.getString("database"));
    return database;
  }

  /** The IDs of all documents that are not deleted, in the order of their bytes. */
  static List<String> ids(Database database) throws Exception {
    Query query = database.createQuery("SELECT meta().id AS id FROM _");
    List<String> ids = new ArrayList<>();
    try (ResultSet rows = query.execute()) {
      for (Result row = rows.next(); row != null; row = rows.next()) ids.add(row.getString("id"));
    }
    ids.sort(null);
    return ids;
  }

  private void digest(JSONObject in, JSONObject out) throws Exception {
    Database database = named(in);
    Digest digest = new Digest();
    for (String id : ids(database)) digest.add(id, new JSONObject(database.getDocument(id).toJSON()));
    out.put("count", digest.count());
    out.put("digest", digest.hex());
  }
}
