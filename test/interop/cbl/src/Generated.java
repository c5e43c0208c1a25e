import java.nio.charset.StandardCharsets;

/** Content that tests and drivers can make alike from a seed: the bytes of a linear congruential generator. */
final class Generated {
  private Generated() {}

  static byte[] bytes(int seed, int length) {
    byte[] bytes = new byte[length];
    int state = seed;
    for (int i = 0; i < length; i++) {
      state = state * 1664525 + 1013904223;
      bytes[i] = (byte) (state >>> 24);
    }
    return bytes;
  }

  /** That many lower-case letters. */
  static String text(int seed, int length) {
    byte[] bytes = bytes(seed, length);
    for (int i = 0; i < length; i++) bytes[i] = (byte) ('a' + (bytes[i] & 0xff) % 26);
    return new String(bytes, StandardCharsets.US_ASCII);
  }
}
