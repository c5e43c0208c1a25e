function (doc, oldDoc) {
  if (doc._deleted) {
    return;
  }
  if (doc.type !== "country" || !doc.region) {
    throw({forbidden: "this database holds countries, each in a region"});
  }
  channel(doc.region);
  if (doc.landlocked) {
    channel("landlocked");
  }
}
