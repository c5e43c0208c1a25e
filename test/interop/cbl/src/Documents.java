import com.couchbase.lite.Blob;
import com.couchbase.lite.Database;
import com.couchbase.lite.Document;
import com.couchbase.lite.MutableDocument;
import java.io.InputStream;
import java.util.HashMap;
import java.util.Iterator;
import java.util.Map;
import org.json.JSONArray;
import org.json.JSONException;
import org.json.JSONObject;

/** The commands on documents and their blobs. */
final class Documents {
  private final Databases databases;

  Documents(Databases databases) {
    this.databases = databases;
  }

  void register(Map<String, Driver.Command> commands) {
    commands.put("put", this::put);
    commands.put("patch", this::patch);
    commands.put("putMany", this::putMany);
    commands.put("get", this::get);
    commands.put("delete", (in, out) -> databases.named(in).delete(existing(in)));
    commands.put("purge", (in, out) -> databases.named(in).purge(in.getString("doc")));
    commands.put("attach", this::attach);
    commands.put("blob", this::blob);
  }

  private Document existing(JSONObject in) throws JSONException {
    Document doc = databases.named(in).getDocument(in.getString("doc"));
    if (doc == null) throw new IllegalArgumentException("no document " + in.getString("doc"));
    return doc;
  }

  private static MutableDocument mutable(Database database, String id) {
    Document doc = database.getDocument(id);
    return doc == null ? new MutableDocument(id) : doc.toMutable();
  }

  private void put(JSONObject in, JSONObject out) throws Exception {
    Database database = databases.named(in);
    MutableDocument doc = mutable(database, in.getString("doc"));
    doc.setJSON(in.getJSONObject("body").toString());
    database.save(doc);
    out.put("rev", doc.getRevisionID());
  }

  private void patch(JSONObject in, JSONObject out) throws Exception {
    Database database = databases.named(in);
    MutableDocument doc = existing(in).toMutable();
    JSONObject body = in.getJSONObject("body");
    MutableDocument parsed = new MutableDocument("parsed", body.toString());
    for (Iterator<String> names = body.keys(); names.hasNext(); ) {
      String name = names.next();
      doc.setValue(name, parsed.getValue(name));
    }
    database.save(doc);
    out.put("rev", doc.getRevisionID());
  }

  private void putMany(JSONObject in, JSONObject out) throws Exception {
    Database database = databases.named(in);
    JSONObject extra = in.has("body") ? in.getJSONObject("body") : new JSONObject();
    int from = in.optInt("from", 0);
    int end = from + in.getInt("count");
    database.inBatch(() -> {
      for (int n = from; n < end; n++) {
        String id = in.getString("prefix") + String.format("%06d", n);
        JSONObject body = new JSONObject(extra.toString());
        body.put("n", n);
        body.put("text", Generated.text(n, in.getInt("bytes")));
        MutableDocument doc = mutable(database, id);
        doc.setJSON(body.toString());
        database.save(doc);
      }
    });
  }

  private void get(JSONObject in, JSONObject out) throws Exception {
    Document doc = databases.named(in).getDocument(in.getString("doc"));
    out.put("found", doc != null);
    if (doc == null) return;
    out.put("rev", doc.getRevisionID());
    out.put("body", new JSONObject(doc.toJSON()));
  }

  private void attach(JSONObject in, JSONObject out) throws Exception {
    Database database = databases.named(in);
    MutableDocument doc = mutable(database, in.getString("doc"));
    byte[] content = Generated.bytes(in.getInt("seed"), in.getInt("length"));
    Blob blob = new Blob(in.optString("contentType", "application/octet-stream"), content);
    doc.setBlob(in.getString("property"), blob);
    database.save(doc);
    out.put("rev", doc.getRevisionID());
    out.put("digest", blob.digest());
    out.put("length", blob.length());
  }

  /** Reads a blob back through the client and reports what its bytes hash to. */
  private void blob(JSONObject in, JSONObject out) throws Exception {
    JSONArray path = in.getJSONArray("path");
    Object value = existing(in).toMap();
    for (int i = 0; i < path.length() && value instanceof Map; i++) value = ((Map<?, ?>) value).get(path.getString(i));
    if (value instanceof Map) value = fromStore(databases.named(in), (Map<?, ?>) value);
    if (!(value instanceof Blob)) throw new IllegalArgumentException("no blob at " + path);
    Blob blob = (Blob) value;
    byte[] content;
    try (InputStream stream = blob.getContentStream()) {
      if (stream == null) throw new IllegalStateException("the blob at " + path + " has no content here");
      content = stream.readAllBytes();
    }
    out.put("digest", blob.digest());
    out.put("length", content.length);
    out.put("contentType", blob.getContentType());
    out.put("sha256", Digest.hex(Digest.sha256(content)));
  }

  /** An entry of _attachments, written by a client that has no blobs, leads to the same store. */
  private static Blob fromStore(Database database, Map<?, ?> entry) {
    Map<String, Object> blob = new HashMap<>();
    blob.put("@type", "blob");
    for (String name : new String[] {"digest", "length", "content_type"}) blob.put(name, entry.get(name));
    return database.getBlob(blob);
  }
}
