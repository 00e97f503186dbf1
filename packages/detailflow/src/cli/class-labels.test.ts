import { expect, test } from 'vitest';
import { classLabels } from './class-labels';

const imagenet = ['tench, Tinca tinca', 'crane', 'bucket, pail', 'crane', 'Bag', 'bag', 'T-shirt/top'];
const labels = (text: string, names: readonly string[] | undefined = imagenet, classes = 7) =>
  classLabels(text, classes, names);

test('numbers, ranges, names and what lies between, in the order given', () => {
  expect(labels('3')).toEqual([3]);
  expect(labels('0-2, 6,6,7')).toEqual([0, 1, 2, 6, 6, 7]);
  expect(labels('t-shirt/top,Bag, bag ,2')).toEqual([6, 4, 5, 2]);
});

test('names that hold commas, alone and in a list', () => {
  expect(labels('bucket, pail')).toEqual([2]);
  expect(labels('Tench,Tinca tinca,bucket,pail,0-1')).toEqual([0, 2, 0, 1]);
});

test('a name of two classes, in any case or in this one', () => {
  expect(() => labels('crane')).toThrow(
    '--class "crane" is the name of the classes 1, 3: give one of the numbers',
  );
  expect(() => labels('BAG')).toThrow('is the name of the classes 4, 5');
});

test('names that are numbers: the same class, or a question', () => {
  const digits = Array.from({ length: 10 }, (_, i) => `${i}`);
  expect(labels('7,0-2', digits, 10)).toEqual([7, 0, 1, 2]);
  const sorted = ['1', '10', '2'];
  expect(() => labels('10', sorted, 3)).toThrow(
    '--class 10 is a number, and the name of class 1: give number:10 or name:10',
  );
  expect(labels('name:10,number:2,name:2', sorted, 3)).toEqual([1, 2, 2]);
});

test('classes that are not there', () => {
  expect(() => labels('8')).toThrow('--class 8: the classes are 0-6, and 7 for none');
  expect(() => labels('buckets')).toThrow(
    /there is no class "buckets" \(did you mean "bucket, pail"\?\): tench/,
  );
  expect(() => labels('bag,sock')).toThrow(/there is no class "sock": tench/);
  expect(() => labels('bag,')).toThrow('there is no class ""');
  expect(() => classLabels('boot', 7)).toThrow(
    '--class "boot": this model has no class names, give numbers 0-6',
  );
  expect(() => labels('T-shirt/top', imagenet, 5)).toThrow(
    'class 6 of the card, and the model has 5 classes',
  );
  const many = Array.from({ length: 1000 }, (_, i) => `kind ${i}`);
  expect(() => labels('sock', many, 1000)).toThrow(/kind 19, \.\.\. \(detailflow inspect lists all 1000\)$/);
});
