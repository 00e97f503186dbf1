// Which class an emoji belongs to: whole subgroups of Unicode, and some that are divided by name.

const whole = {
  'happy face': ['face-smiling', 'face-affection', 'face-tongue', 'face-hat', 'face-glasses'],
  'calm face': ['face-neutral-skeptical', 'face-sleepy', 'face-hand'],
  'sad face': ['face-concerned', 'face-unwell'],
  'cat face': ['cat-face'],
  monster: ['face-costume'],
  bird: ['animal-bird'],
  'sea animal': ['animal-marine'],
  bug: ['animal-bug'],
  flower: ['plant-flower'],
  plant: ['plant-other'],
  fruit: ['food-fruit'],
  vegetable: ['food-vegetable'],
  meal: ['food-prepared', 'food-asian'],
  sweet: ['food-sweet'],
  drink: ['drink'],
  flag: ['country-flag', 'subdivision-flag'],
  heart: ['heart'],
  sky: ['sky-weather'],
  ship: ['transport-water'],
  aircraft: ['transport-air'],
  building: ['place-building', 'place-religious'],
  landscape: ['place-geographic', 'place-other'],
  instrument: ['musical-instrument', 'music', 'sound'],
  clothing: ['clothing'],
  paper: ['book-paper', 'office', 'mail', 'writing'],
  tool: ['tool', 'lock', 'science', 'medical'],
  device: ['phone', 'computer', 'light-video'],
  household: ['household', 'dishware'],
  party: ['event', 'award-medal', 'game', 'arts-crafts'],
  hand: ['hand-fingers-open', 'hand-fingers-partial', 'hand-single-finger', 'hand-fingers-closed', 'hands'],
  person: ['person'],
  worker: ['person-role', 'person-fantasy'],
  sign: ['zodiac', 'keycap', 'alphanum', 'av-symbol', 'arrow'],
  shape: ['geometric'],
};
const ofSubgroup = new Map(
  Object.entries(whole).flatMap(([name, list]) => list.map((subgroup) => [subgroup, name])),
);

const animalFaces =
  /\bface$|^(fox|bear|polar bear|koala|panda|lion|wolf|frog|hamster|unicorn|raccoon|owl|penguin|chicken)$/;
const vehicles =
  /locomotive|railway car|train|metro|light rail|tram|monorail|bus$|ambulance|engine|car$|taxi|automobile|vehicle|truck|lorry|tractor|motor|scooter|rickshaw/;
const balls = /ball$|softball|football|tennis|volleyball/;

/** Subgroups that are divided, or of which something is left out: the class by the English name. */
const divided = {
  'face-negative': (label) => (/skull/.test(label) ? 'monster' : 'angry face'),
  'monkey-face': () => 'animal face',
  'animal-mammal': animal,
  'animal-amphibian': animal,
  'animal-reptile': animal,
  'animal-bird': (label) => (/feather|wing$/.test(label) ? undefined : 'bird'),
  time: (label) => (/o’clock|thirty/.test(label) ? 'clock' : undefined),
  'transport-ground': (label) =>
    vehicles.test(label) && !/wheelchair|stop|station/.test(label) ? 'vehicle' : undefined,
  sport: (label) => (balls.test(label) ? 'ball' : undefined),
  'transport-water': (label) => (/anchor|buoy/.test(label) ? undefined : 'ship'),
  'transport-air': (label) => (/seat/.test(label) ? undefined : 'aircraft'),
};

function animal(label) {
  if (/paw prints|pig nose/.test(label)) return undefined;
  return animalFaces.test(label) ? 'animal face' : 'animal';
}

/** Classes whose skin tones are pictures of their own; elsewhere only the yellow one is taken. */
const tonedClasses = new Set(['hand', 'person']);

/** The class of an emoji; undefined where it has none. */
export function classOf({ label, subgroup, tone }) {
  if (label === 'love letter') return undefined; // among the hearts
  const name = divided[subgroup] ? divided[subgroup](label) : ofSubgroup.get(subgroup);
  return name && (!tone || tonedClasses.has(name)) ? name : undefined;
}

/** Classes that hold together: what their emoji share can be seen at 64 pixels. The model of the repository draws these. */
export const coherent = [
  ...['happy face', 'calm face', 'sad face', 'angry face', 'cat face', 'animal face', 'monster', 'heart'],
  ...['clock', 'flag', 'ball', 'fruit', 'vegetable', 'flower', 'bird', 'sea animal', 'vehicle', 'building'],
  ...['sign', 'shape'],
];
