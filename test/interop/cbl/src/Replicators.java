import com.couchbase.lite.Authenticator;
import com.couchbase.lite.BasicAuthenticator;
import com.couchbase.lite.DocumentFlag;
import com.couchbase.lite.DocumentReplication;
import com.couchbase.lite.ReplicatedDocument;
import com.couchbase.lite.Replicator;
import com.couchbase.lite.ReplicatorConfiguration;
import com.couchbase.lite.ReplicatorStatus;
import com.couchbase.lite.ReplicatorType;
import com.couchbase.lite.SessionAuthenticator;
import com.couchbase.lite.URLEndpoint;
import java.net.URI;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import org.json.JSONArray;
import org.json.JSONException;
import org.json.JSONObject;

/** The replicators, their commands, and the events that tell what they do. */
final class Replicators {
  private final Map<String, Replicator> all = new HashMap<>();
  private final Wire wire;
  private final Databases databases;

  Replicators(Wire wire, Databases databases) {
    this.wire = wire;
    this.databases = databases;
  }

  void register(Map<String, Driver.Command> commands) {
    commands.put("replicator", this::create);
    commands.put("start", (in, out) -> named(in).start(in.optBoolean("resetCheckpoint")));
    commands.put("stop", (in, out) -> named(in).stop());
    commands.put("status", (in, out) -> status(out, named(in).getStatus()));
    commands.put("pending", (in, out) -> out.put("ids", new JSONArray(named(in).getPendingDocumentIds())));
  }

  private Replicator named(JSONObject in) throws JSONException {
    Replicator replicator = all.get(in.getString("replicator"));
    if (replicator == null) throw new IllegalArgumentException("no replicator " + in.getString("replicator"));
    return replicator;
  }

  private void create(JSONObject in, JSONObject out) throws Exception {
    String name = in.getString("replicator");
    if (all.containsKey(name)) throw new IllegalArgumentException("there is a replicator " + name);
    ReplicatorConfiguration config =
        new ReplicatorConfiguration(databases.named(in), new URLEndpoint(new URI(in.getString("url"))));
    config.setType(type(in.optString("type", "pushAndPull")));
    config.setContinuous(in.optBoolean("continuous"));
    config.setAutoPurgeEnabled(in.optBoolean("autoPurge", true));
    config.setConflictResolver(Resolvers.named(in.optString("resolver", "default"), name, wire));
    if (in.has("auth")) config.setAuthenticator(authenticator(in.getJSONObject("auth")));
    if (in.has("channels")) config.setChannels(strings(in.getJSONArray("channels")));
    if (in.has("docs")) config.setDocumentIDs(strings(in.getJSONArray("docs")));
    if (in.has("heartbeat")) config.setHeartbeat(in.getInt("heartbeat"));
    if (in.has("maxAttempts")) config.setMaxAttempts(in.getInt("maxAttempts"));
    if (in.has("maxAttemptWait")) config.setMaxAttemptWaitTime(in.getInt("maxAttemptWait"));
    Replicator replicator = new Replicator(config);
    replicator.addChangeListener(databases.listeners, change -> tellStatus(name, change.getStatus()));
    replicator.addDocumentReplicationListener(databases.listeners, documents -> tellDocuments(name, documents));
    all.put(name, replicator);
  }

  private static ReplicatorType type(String name) {
    switch (name) {
      case "push": return ReplicatorType.PUSH;
      case "pull": return ReplicatorType.PULL;
      case "pushAndPull": return ReplicatorType.PUSH_AND_PULL;
      default: throw new IllegalArgumentException("no replicator type " + name);
    }
  }

  private static Authenticator authenticator(JSONObject auth) throws JSONException {
    if (auth.has("session")) return new SessionAuthenticator(auth.getString("session"), auth.getString("cookie"));
    return new BasicAuthenticator(auth.getString("user"), auth.getString("password").toCharArray());
  }

  private static List<String> strings(JSONArray array) throws JSONException {
    List<String> strings = new ArrayList<>();
    for (int i = 0; i < array.length(); i++) strings.add(array.getString(i));
    return strings;
  }

  private static void status(JSONObject out, ReplicatorStatus status) {
    Wire.put(out, "activity", status.getActivityLevel().name().toLowerCase(Locale.ROOT));
    Wire.put(out, "completed", status.getProgress().getCompleted());
    Wire.put(out, "total", status.getProgress().getTotal());
    Wire.put(out, "error", Wire.error(status.getError()));
  }

  private void tellStatus(String name, ReplicatorStatus status) {
    JSONObject event = new JSONObject();
    Wire.put(event, "event", "status");
    Wire.put(event, "replicator", name);
    status(event, status);
    wire.send(event);
  }

  private void tellDocuments(String name, DocumentReplication replication) {
    JSONArray documents = new JSONArray();
    for (ReplicatedDocument document : replication.getDocuments()) {
      JSONObject one = new JSONObject();
      Wire.put(one, "doc", document.getID());
      if (document.getFlags().contains(DocumentFlag.DELETED)) Wire.put(one, "deleted", true);
      if (document.getFlags().contains(DocumentFlag.ACCESS_REMOVED)) Wire.put(one, "accessRemoved", true);
      Wire.put(one, "error", Wire.error(document.getError()));
      documents.put(one);
    }
    JSONObject event = new JSONObject();
    Wire.put(event, "event", "documents");
    Wire.put(event, "replicator", name);
    Wire.put(event, "push", replication.isPush());
    Wire.put(event, "documents", documents);
    wire.send(event);
  }
}
