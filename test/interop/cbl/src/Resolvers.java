import com.couchbase.lite.Conflict;
import com.couchbase.lite.ConflictResolver;
import com.couchbase.lite.Document;
import com.couchbase.lite.MutableDocument;
import java.util.Map;
import org.json.JSONObject;

/** The conflict resolvers that a command can choose from. */
final class Resolvers {
  private Resolvers() {}

  /** The resolver of that name, which tells each conflict as an event; null for the client's own. */
  static ConflictResolver named(String name, String replicator, Wire wire) {
    ConflictResolver resolver;
    switch (name) {
      case "default": return null;
      case "localWins": resolver = Conflict::getLocalDocument; break;
      case "remoteWins": resolver = Conflict::getRemoteDocument; break;
      case "merge": resolver = Resolvers::merge; break;
      default: throw new IllegalArgumentException("no conflict resolver " + name);
    }
    return conflict -> {
      JSONObject event = new JSONObject();
      Wire.put(event, "event", "conflict");
      Wire.put(event, "replicator", replicator);
      Wire.put(event, "doc", conflict.getDocumentId());
      wire.send(event);
      return resolver.resolve(conflict);
    };
  }

  /** The members of both, the local one's where both have a member; against a deletion the other side as it is. */
  private static Document merge(Conflict conflict) {
    Document local = conflict.getLocalDocument();
    Document remote = conflict.getRemoteDocument();
    if (local == null) return remote;
    if (remote == null) return local;
    MutableDocument merged = remote.toMutable();
    for (Map.Entry<String, Object> member : local.toMap().entrySet()) merged.setValue(member.getKey(), member.getValue());
    return merged;
  }
}
