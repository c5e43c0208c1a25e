import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.TreeSet;
import org.json.JSONArray;
import org.json.JSONException;
import org.json.JSONObject;

/**
 * One hash over all documents of a database, whatever the order they come in: the exclusive or of SHA-256 over each
 * document's ID, a zero byte and its canonical text. README.md defines that text; the tests compute the same in JavaScript.
 */
final class Digest {
  private static final double SAFE_INTEGER = 9007199254740992.0; // 2^53

  private final byte[] sum = new byte[32];
  private int count;

  void add(String id, JSONObject document) throws JSONException {
    StringBuilder text = new StringBuilder(id).append('\0');
    object(text, document, true);
    byte[] one = sha256(text.toString().getBytes(StandardCharsets.UTF_8));
    for (int i = 0; i < sum.length; i++) sum[i] ^= one[i];
    count++;
  }

  int count() {
    return count;
  }

  String hex() {
    return hex(sum);
  }

  static byte[] sha256(byte[] bytes) {
    try {
      return MessageDigest.getInstance("SHA-256").digest(bytes);
    } catch (NoSuchAlgorithmException e) {
      throw new IllegalStateException(e);
    }
  }

  static String hex(byte[] bytes) {
    StringBuilder text = new StringBuilder();
    for (byte b : bytes) text.append(String.format("%02x", b));
    return text.toString();
  }

  private static void object(StringBuilder text, JSONObject object, boolean top) throws JSONException {
    text.append('{');
    // The order of Java strings (UTF-16 units) is JavaScript's too.
    for (String name : new TreeSet<>(object.keySet())) {
      if (top && name.startsWith("_")) continue;
      if (text.charAt(text.length() - 1) != '{') text.append(',');
      string(text, name);
      text.append(':');
      value(text, object.get(name));
    }
    text.append('}');
  }

  private static void value(StringBuilder text, Object value) throws JSONException {
    if (value instanceof JSONObject) object(text, (JSONObject) value, false);
    else if (value instanceof JSONArray) array(text, (JSONArray) value);
    else if (value instanceof String) string(text, (String) value);
    else if (value instanceof Number) number(text, (Number) value);
    else text.append(value); // true, false, null
  }

  private static void array(StringBuilder text, JSONArray array) throws JSONException {
    text.append('[');
    for (int i = 0; i < array.length(); i++) {
      if (i > 0) text.append(',');
      value(text, array.get(i));
    }
    text.append(']');
  }

  private static void number(StringBuilder text, Number number) {
    double value = number.doubleValue();
    if (value == Math.rint(value) && Math.abs(value) < SAFE_INTEGER) text.append((long) value);
    else text.append('#').append(String.format("%016x", Double.doubleToLongBits(value)));
  }

  private static void string(StringBuilder text, String string) {
    text.append('"');
    for (int i = 0; i < string.length(); i++) {
      char c = string.charAt(i);
      if (c < ' ' || c == '"' || c == '\\') text.append(String.format("\\u%04x", (int) c));
      else text.append(c);
    }
    text.append('"');
  }
}
